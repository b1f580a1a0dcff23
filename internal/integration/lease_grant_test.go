package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// leasesLeft waits until a server has so many leases.
func leasesLeft(t testing.TB, c *etcd.Client, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := c.Raw().Leases(context.Background())
		return err == nil && len(resp.Leases) == n
	}, patience, 20*time.Millisecond)
}

func TestGrantSurvivesALostAnswer(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c := client(t, config(srv))
	for n, code := range []codes.Code{codes.Unavailable, codes.Canceled, codes.DeadlineExceeded} {
		s := &script{answer: status.Error(code, "the answer was lost"), times: 1, writesOnly: true}
		id, err := c.Grant(f.follow(t.Context(), s), time.Hour)
		require.NoError(t, err)
		require.EqualValues(t, 1, s.executed.Load())
		got, err := c.TimeToLive(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, time.Hour, got.GrantedTTL)
		leasesLeft(t, c, n+1)
	}
}

func TestGrantThatFailsLeavesNoLease(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c := client(t, config(srv))
	for name, grant := range map[string]func(context.Context) error{
		"Grant":      func(ctx context.Context) error { return second(c.Grant(ctx, time.Hour)) },
		"PutWithTTL": func(ctx context.Context) error { return second(c.PutWithTTL(ctx, "k", nil, time.Hour)) },
	} {
		s := &script{answer: status.Error(codes.Unknown, "whatever"), writesOnly: true}
		err := grant(f.follow(t.Context(), s))
		require.True(t, etcd.MaybeApplied(err), name)
		require.EqualValues(t, 1, s.executed.Load(), name)
		leasesLeft(t, c, 0)
	}
}

func TestCancelledLocksLeaveNoLeases(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"lock", within(t, patience)
	l, err := c.NewLock(name, etcd.WithLockTTL(time.Hour))
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(drawSeed(t), 0))
	for range 300 {
		brief, cancel := context.WithTimeout(ctx, time.Duration(random.IntN(1500))*time.Microsecond)
		if l.Lock(brief) == nil {
			require.NoError(t, l.Unlock(ctx))
		}
		cancel()
	}
	require.NoError(t, l.Close())
	leasesLeft(t, c, 0)
	require.Zero(t, queue(t, c, name))
}

func TestLargestTimeToLiveIsNeverReportedNegative(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	const largest = time.Duration(1<<63 - 1)
	require.Empty(t, o.during(func() {
		for name, err := range map[string]error{
			"NewLock":    second(c.NewLock("l", etcd.WithLockTTL(largest))),
			"Grant":      second(c.Grant(t.Context(), largest)),
			"PutWithTTL": second(c.PutWithTTL(t.Context(), "k", nil, largest)),
		} {
			require.ErrorIs(t, err, etcd.ErrInvalidTTL, name)
			require.ErrorContains(t, err, "9223372037 seconds", name)
		}
		require.ErrorIs(t, second(c.Grant(t.Context(), -largest)), etcd.ErrInvalidTTL)
	}))
}

func TestLeaseIDPrintsAsANumber(t *testing.T) {
	t.Parallel()
	const id = etcd.LeaseID(0x694d7aa7c9580a50)
	for format, want := range map[string]string{
		"%x": "694d7aa7c9580a50", "%X": "694D7AA7C9580A50", "%#x": "0x694d7aa7c9580a50",
		"%016x": "694d7aa7c9580a50", "%020x": "0000694d7aa7c9580a50", "%d": "7587855808245271120",
		"%s": "694d7aa7c9580a50", "%v": "694d7aa7c9580a50", "%+v": "694d7aa7c9580a50",
		"%q": `"694d7aa7c9580a50"`, "%20s|": "    694d7aa7c9580a50|", "%-20v|": "694d7aa7c9580a50    |",
		"%b": "110100101001101011110101010011111001001010110000000101001010000",
	} {
		require.Equal(t, want, fmt.Sprintf(format, id), format)
	}
	require.Equal(t, "000000000000002a", fmt.Sprint(etcd.LeaseID(42)))
	require.Equal(t, "2a", fmt.Sprintf("%x", etcd.LeaseID(42)))
}
