package integration

import (
	"context"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestCloseEndsPendingRequestsWithTheirOutcome(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c, err := etcd.NewClient(config(srv))
	require.NoError(t, err)

	arrived := make(chan struct{}, 2)
	s := &script{arrived: func(ctx context.Context) {
		arrived <- struct{}{}
		<-ctx.Done() // until the connection is gone
	}}
	ctx := faults.follow(within(t, patience), s)
	put, get := make(chan error, 1), make(chan error, 1)
	go func() { put <- c.Put(ctx, prefix(t), nil) }()
	go func() { get <- second(c.Get(ctx, prefix(t))) }()
	<-arrived
	<-arrived
	require.NoError(t, c.Close())

	var e *etcd.Error
	require.ErrorAs(t, <-put, &e)
	require.ErrorIs(t, e, etcd.ErrClosed)
	require.True(t, e.Sent)
	require.True(t, e.MaybeApplied)
	require.False(t, etcd.IsRetryable(e))
	err = <-get
	require.ErrorIs(t, err, etcd.ErrClosed)
	require.False(t, etcd.MaybeApplied(err))
}

func TestCloseEndsUnconnectedRequestsAsNotApplied(t *testing.T) {
	t.Parallel()
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(etcdtest.ClosedPort(t)).WithLazyConnect())
	require.NoError(t, err)
	put := make(chan error, 1)
	go func() { put <- c.Put(within(t, patience), "key", nil) }()
	require.NoError(t, c.Close())
	err = <-put
	require.ErrorIs(t, err, etcd.ErrClosed)
	require.False(t, etcd.MaybeApplied(err))
}

func TestClosedClientAnswersAtOnce(t *testing.T) {
	t.Parallel()
	c, err := etcd.NewClient(config(server(t)))
	require.NoError(t, err)
	require.NoError(t, c.Close())

	pace, began := keepPace(t), time.Now()
	for range 100 {
		var e *etcd.Error
		require.ErrorAs(t, c.Put(context.Background(), "key", nil), &e)
		require.ErrorIs(t, e, etcd.ErrClosed)
		require.False(t, e.Sent)
		require.False(t, e.MaybeApplied)
		require.ErrorIs(t, second(c.Get(context.Background(), "key")), etcd.ErrClosed)
		require.ErrorIs(t, second(c.Grant(context.Background(), time.Minute)), etcd.ErrClosed)
	}
	require.Less(t, time.Since(began), pace.allow(500*time.Millisecond))
}

func TestCloseMayBeCalledByManyAtOnce(t *testing.T) {
	t.Parallel()
	c, err := etcd.NewClient(config(server(t)))
	require.NoError(t, err)
	var closers sync.WaitGroup
	for range 10 {
		closers.Go(func() { assert.NoError(t, c.Close()) })
	}
	closers.Wait()
	require.NoError(t, c.Close())
}

// Not parallel: it counts the goroutines and files of the process.
func TestClientsThatComeAndGoLeaveNothingBehind(t *testing.T) {
	srv := server(t)
	use := func() {
		c, err := etcd.NewClient(config(srv))
		require.NoError(t, err)
		require.NoError(t, c.Put(t.Context(), prefix(t), nil))
		require.NoError(t, c.Close())
	}
	use() // the server's first connection makes what it keeps
	before, files := goleak.IgnoreCurrent(), openFiles(t)
	for range 50 {
		use()
	}
	require.NoError(t, goleak.Find(before))
	require.Eventually(t, func() bool { return openFiles(t) <= files }, patience, time.Millisecond,
		"the server closes its ends")
}

func openFiles(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}
