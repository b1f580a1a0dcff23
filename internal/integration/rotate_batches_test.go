package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestReencryptBatchesFillTheServersLimit(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.seed(127 * 3)
	sizes := r.batches(func() {
		_, err := r.now.Reencrypt(t.Context(), "")
		require.NoError(t, err)
	})
	require.LessOrEqual(t, slices.Max(sizes), 127)
	require.Contains(t, sizes, 127)
	r.requireDone()

	small := newRotation(t, etcdtest.WithMaxTxnOps(4))
	small.now = small.reader(func(c *etcd.Config) { c.WithMaxTxnOps(4) })
	small.old = client(t, config(small.srv).WithKeyring(ringOf(t, small.a)).WithMaxTxnOps(4))
	small.seed(4)
	require.Equal(t, []int{3, 1}, small.batches(func() {
		_, err := small.now.Reencrypt(t.Context(), "")
		require.NoError(t, err)
	}))
	small.requireDone()
}

func TestReencryptStaysBelowTheLimitOfARequest(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]int{"default": etcd.DefaultMaxRequestBytes, "small": 64 << 10} {
		r := newRotation(t, etcdtest.WithMaxRequestBytes(uint(limit)))
		for i, size := range []int{limit / 3, limit / 3, limit / 3, limit / 2, limit - 1000, 1, limit / 2, limit - 1000, limit / 10, limit / 10} {
			key, value := fmt.Sprintf("/%d", i)+strings.Repeat("k", 300), strings.Repeat("v", size)
			require.NoError(t, r.old.Put(t.Context(), key, []byte(value)), name)
			r.want[key] = value
		}
		r.now = r.reader(func(c *etcd.Config) { c.WithMaxRequestBytes(limit) })
		report, err := r.now.Reencrypt(t.Context(), "")
		require.NoError(t, err, name)
		require.Equal(t, etcd.ReencryptReport{Scanned: 10, Stale: 10, Rewritten: 10}, report)
		r.requireDone()
	}
}

// A value without encryption may be so large that it has no room for it.
func TestReencryptReportsAndLeavesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	ctx := t.Context()
	r.seed(3)
	value := strings.Repeat("v", etcd.DefaultMaxRequestBytes-100)
	plant(t, r.now, "/s/00001", value)
	report, err := r.now.Reencrypt(ctx, "")
	require.NoError(t, err)
	require.Len(t, report.Errors, 1)
	require.ErrorIs(t, report.Errors[0], etcd.ErrTooLarge)
	require.ErrorContains(t, report.Errors[0], "/s/00001")
	report.Errors = nil
	require.Equal(t, etcd.ReencryptReport{Scanned: 3, Stale: 3, Rewritten: 2, TooLarge: 1}, report)
	require.Equal(t, value, storedBytes(t, r.now, "/s/00001"))
}

func TestReencryptKeepsItsRate(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	r.seed(60)
	began := time.Now()
	sizes := r.batches(func() {
		report, err := r.now.Reencrypt(t.Context(), "", etcd.WithKeysPerSecond(50))
		require.NoError(t, err)
		require.Equal(t, int64(60), report.Rewritten)
	})
	require.GreaterOrEqual(t, time.Since(began), time.Second, "50 keys, and the others not before a second has passed")
	require.Equal(t, []int{50, 10}, sizes, "a second's worth at a time")
	r.requireDone()
}

func TestReencryptStopsWhileWaitingForItsRate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		stop func(*etcd.Client, context.CancelFunc)
		want error
	}{
		"cancelled": {func(_ *etcd.Client, cancel context.CancelFunc) { cancel() }, context.Canceled},
		"closed":    {func(c *etcd.Client, _ context.CancelFunc) { _ = c.Close() }, etcd.ErrClosed},
	} {
		r := newRotation(t)
		r.seed(3)
		ctx, cancel := context.WithCancel(t.Context())
		report, err := r.now.Reencrypt(ctx, "", etcd.WithKeysPerSecond(1), etcd.WithReencryptProgress(func(rep etcd.ReencryptReport) {
			if rep.Rewritten == 2 {
				tc.stop(r.now, cancel)
			}
		}))
		require.ErrorIs(t, err, tc.want, name)
		require.Equal(t, int64(2), report.Rewritten)
		require.Equal(t, "/s/00002", report.Next)
		cancel()
	}
}
