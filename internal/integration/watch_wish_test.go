package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// progressFrom reads progress until it reaches a revision.
func progressFrom(t *testing.T, w etcd.WatchChan, revision int64) {
	t.Helper()
	for r := next(t, w); r.Revision < revision; r = next(t, w) {
		require.NoError(t, r.Err())
		require.Empty(t, r.Events)
	}
}

// Unasked, progress would come once a second.
func TestRequestedProgressComesAtOnce(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	p, ctx := prefix(t), within(t, patience)
	w := c.WatchPrefix(ctx, p+"quiet/", etcd.WithProgressNotify())
	if !progressInOrder(t, srv) {
		require.NoError(t, c.RequestProgress(ctx, 0), "of which nothing comes")
		return
	}
	began := time.Now()
	const rounds = 100
	for range rounds {
		require.NoError(t, c.Put(ctx, p+"other", nil))
		revision, err := c.Revision(ctx)
		require.NoError(t, err)
		require.NoError(t, c.RequestProgress(ctx, revision))
		progressFrom(t, w, revision)
	}
	require.Less(t, time.Since(began), rounds*time.Second/2)
}

func TestProgressFollowsTheEventsThatItCovers(t *testing.T) {
	t.Parallel()
	srv := server(t)
	if !progressInOrder(t, srv) {
		return
	}
	c := client(t, config(srv).WithTimeout(busyTimeout))
	p, ctx := prefix(t), within(t, patience)
	w := c.WatchPrefix(ctx, p, etcd.WithProgressNotify())
	for range 20 {
		var result etcd.WriteResult
		for range 5 {
			require.NoError(t, c.Put(ctx, p+"k", nil, etcd.WithResult(&result)))
		}
		require.NoError(t, c.RequestProgress(ctx, result.Revision))
		seen := 0
		for r := next(t, w); ; r = next(t, w) {
			require.NoError(t, r.Err())
			if seen += len(r.Events); len(r.Events) == 0 && r.Revision >= result.Revision {
				break
			}
		}
		require.Equal(t, 5, seen)
	}
}

func TestRequestForProgressOutlivesTheStream(t *testing.T) {
	t.Parallel()
	srv := server(t)
	if !progressInOrder(t, srv) {
		return
	}
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c, direct := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint())), client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	w := c.WatchPrefix(ctx, p, etcd.WithProgressNotify(), etcd.WithWatchStatus())
	require.Equal(t, etcd.WatchRegistered, next(t, w).State)
	proxy.Refuse()
	proxy.Cut()
	for r := next(t, w); r.State != etcd.WatchInterrupted; r = next(t, w) {
	}
	var result etcd.WriteResult
	require.NoError(t, direct.Put(ctx, "other", nil, etcd.WithResult(&result)))
	require.NoError(t, c.RequestProgress(ctx, result.Revision))
	proxy.Heal()
	require.Equal(t, etcd.WatchResumed, next(t, w).State)
	progressFrom(t, w, result.Revision)
}

func TestRequestForProgressRefusesBadInput(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	require.ErrorIs(t, c.RequestProgress(t.Context(), -1), etcd.ErrInvalidArgument)
	require.NoError(t, c.RequestProgress(t.Context(), 1), "nobody watches")
	require.NoError(t, c.Close())
	require.ErrorIs(t, c.RequestProgress(t.Context(), 0), etcd.ErrClosed)
}
