package integration

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestRevisionHoldsAllThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, key := within(t, busyTimeout), prefix(t)+"key"
		for range 3 {
			var written etcd.WriteResult
			require.NoError(t, c.Put(ctx, key, nil, etcd.WithResult(&written)))
			var revision int64
			var err error
			seen := o.during(func() { revision, err = c.Revision(ctx) })
			require.NoError(t, err)
			require.Equal(t, written.Revision, revision)
			require.Equal(t, []string{"Range"}, seen)
		}
		revision, err := c.Revision(ctx)
		require.NoError(t, err)
		watch := c.Watch(ctx, key, etcd.WithRevision(revision+1))
		require.NoError(t, c.Put(ctx, key, []byte("next")))
		require.Equal(t, []string{"PUT next"}, eventsOf(t, watch, 1))
	})
}

func TestRevisionNeedsNoPermission(t *testing.T) {
	t.Parallel()
	// A server that puts a request off is asked again, and more often the slower it is:
	// only answers that are final count.
	var answered atomic.Int64
	srv := server(t, etcdtest.WithAuth("root-password"), etcdtest.WithUser("app", "password",
		etcdtest.Permission{Prefix: "own/", Read: true, Write: true}),
		etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
			func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				resp, err := handler(ctx, req)
				if err == nil || errors.Is(err, rpctypes.ErrGRPCPermissionDenied) {
					answered.Add(1)
				}
				return resp, err
			})))
	ctx := within(t, busyTimeout)
	c := client(t, config(srv).WithAuth("app", "password"))
	own := client(t, config(srv).WithAuth("app", "password").WithNamespace("own/"))
	for range 3 {
		var written etcd.WriteResult
		require.NoError(t, own.Put(ctx, "key", nil, etcd.WithResult(&written)))
		for requests, c := range map[int64]*etcd.Client{1: own, 2: c} {
			before := answered.Load()
			revision, err := c.Revision(ctx)
			require.NoError(t, err)
			require.Equal(t, written.Revision, revision)
			require.Equal(t, requests, answered.Load()-before)
		}
	}
}

func TestRangeTellsTheRevisionOfItsKeys(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, p := within(t, busyTimeout), prefix(t)
		before, err := c.Range(ctx, p)
		require.NoError(t, err)
		require.Empty(t, before.KVs)
		require.Equal(t, revisionOf(t, c), before.Revision)

		fill(t, c, p, 3)
		require.NoError(t, c.Put(ctx, "elsewhere", nil))
		var got *etcd.RangeResult
		seen := o.during(func() { got, err = c.Range(ctx, p) })
		require.NoError(t, err)
		require.Equal(t, []string{"Range"}, seen)
		require.Equal(t, list(t, c, p), got.KVs)
		require.Equal(t, revisionOf(t, c), got.Revision)
		require.Greater(t, got.Revision, got.KVs[2].ModRevision)

		require.NoError(t, second(c.Delete(ctx, p+"00001")))
		past, err := c.Range(ctx, p, etcd.WithRevision(got.Revision), etcd.WithLimit(2))
		require.NoError(t, err)
		require.Equal(t, &etcd.RangeResult{KVs: got.KVs[:2], Revision: got.Revision}, past)
	})
}

// The keys are more than one page, and one of them is written with each request.
func TestLongRangeIsOneMomentAtItsRevision(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	ctx, p := within(t, busyTimeout), prefix(t)
	const keys = 12_000
	fill(t, c, p, keys)
	writer := client(t, config(srv))
	n := 0
	o.around(nil, func(req any) {
		if _, write := req.(interface{ GetPrevKv() bool }); !write && n < 20 { // not by its own puts
			n++
			require.NoError(t, writer.Put(ctx, fmt.Sprintf("%s%05d", p, keys-n), []byte("new")))
		}
	})
	got, err := c.Range(ctx, p)
	o.around(nil, nil)
	require.NoError(t, err)
	require.Positive(t, n)
	then, err := c.GetRange(ctx, p, p+"~", etcd.WithRevision(got.Revision))
	require.NoError(t, err)
	require.Equal(t, then, got.KVs)
	require.Len(t, got.KVs, keys)
}

func TestRangeKeepsWhatCanBeDecoded(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	ctx, p := t.Context(), prefix(t)
	require.NoError(t, c.Put(ctx, p+"good", []byte("1")))
	plant(t, c, p+"bad", planted)
	got, err := c.Range(ctx, p)
	requireUndecodable(t, err, p+"bad", etcd.ErrNotEncrypted, "range")
	require.Equal(t, []string{p + "good"}, keysOf(got.KVs))
	require.Equal(t, revisionOf(t, c), got.Revision)
}

func TestRangeRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	requireRefused(t, o, "negative revision", etcd.ErrInvalidArgument, func() error {
		return second(c.Range(t.Context(), "k", etcd.WithRevision(-1)))
	})
	long := string(make([]byte, etcd.DefaultMaxKeyBytes+1))
	requireRefused(t, o, "long prefix", etcd.ErrTooLarge, func() error { return second(c.Range(t.Context(), long)) })

	for range 3 {
		require.NoError(t, c.Put(t.Context(), "k", nil))
	}
	now := revisionOf(t, c)
	_, err := c.Raw().Compact(t.Context(), now)
	require.NoError(t, err)
	got, err := c.Range(t.Context(), "k", etcd.WithRevision(now-1))
	require.ErrorIs(t, err, etcd.ErrCompacted)
	require.Nil(t, got)
	require.ErrorIs(t, second(c.Range(t.Context(), "k", etcd.WithRevision(now+1))), etcd.ErrFutureRevision)
}

// What a typed watch needs to begin anew after a compaction is in its last pair.
func TestTypedWatchTellsTheCompaction(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, p := within(t, busyTimeout), prefix(t)
	typed := etcd.NewTyped[int](c, p)
	for n := range 5 {
		require.NoError(t, typed.Put(ctx, "n", n))
	}
	_, err := c.Raw().Compact(ctx, revisionOf(t, c), clientv3.WithCompactPhysical())
	require.NoError(t, err)
	for ev, err := range typed.Watch(ctx, etcd.WithRevision(2)) {
		require.ErrorIs(t, err, etcd.ErrCompacted)
		require.Equal(t, revisionOf(t, c), ev.CompactRevision)
	}

	list, err := typed.Range(ctx)
	require.NoError(t, err)
	require.Equal(t, revisionOf(t, c), list.Revision)
	require.Len(t, list.Values, 1)
	require.Equal(t, "n", list.Values[0].Name)
	require.Equal(t, 4, list.Values[0].Value)
	require.NoError(t, typed.Put(ctx, "n", 5))
	for ev, err := range typed.Watch(ctx, etcd.WithRevision(list.Revision+1)) {
		require.NoError(t, err)
		require.Equal(t, 5, ev.Value)
		require.Zero(t, ev.CompactRevision)
		break
	}
}

func TestTypedRangeKeepsWhatFitsItsType(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, p := t.Context(), prefix(t)
	typed := etcd.NewTyped[int](c, p)
	require.NoError(t, typed.Put(ctx, "good", 1))
	require.NoError(t, c.Put(ctx, p+"bad", []byte(`"text"`)))
	list, err := typed.Range(ctx)
	var bad *etcd.DecodeError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, p+"bad", bad.Key)
	require.ErrorIs(t, err, etcd.ErrEncoding)
	require.Len(t, list.Values, 1)
	require.Equal(t, "good", list.Values[0].Name)
	require.Equal(t, revisionOf(t, c), list.Revision)
}
