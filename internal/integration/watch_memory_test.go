package integration

import (
	"context"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// This test measures the memory of the process, so it is not parallel.
func TestIdleWatchesTakeLessThanRawOnes(t *testing.T) {
	const watches = 3000
	endpoints := serverProcess(t)
	ours := client(t, etcd.DefaultConfig().WithEndpoints(endpoints...))
	raw := client(t, etcd.DefaultConfig().WithEndpoints(endpoints...)).Raw()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := prefix(t)
	next(t, raw.Watch(ctx, p, clientv3.WithCreatedNotify()))
	ours.Watch(ctx, p)

	rawWatches := make([]any, 0, watches)
	theirs, _ := taken(func() {
		for i := range watches {
			rawWatches = append(rawWatches, raw.Watch(ctx, p+strconv.Itoa(i)))
		}
	})
	idle := make([]etcd.WatchChan, 0, watches)
	bytes, goroutines := taken(func() {
		for i := range watches {
			idle = append(idle, ours.Watch(ctx, p+strconv.Itoa(i)))
		}
	})
	runtime.KeepAlive(rawWatches)
	t.Logf("an idle watch takes %d bytes and %.3f goroutines, clientv3's %d bytes",
		bytes/watches, float64(goroutines)/watches, theirs/watches)
	require.Less(t, bytes, theirs)
	require.Less(t, goroutines, watches/10)
}

// This test counts the goroutines of the process, so it is not parallel.
func TestRestingWatchesGoOn(t *testing.T) {
	endpoints := serverProcess(t)
	c := client(t, etcd.DefaultConfig().WithEndpoints(endpoints...))
	const watches = 500
	p, ctx := prefix(t), within(t, patience)
	canceled, cancel := context.WithCancel(ctx)
	defer cancel()
	c.Watch(ctx, p) // opens a stream
	before := runtime.NumGoroutine()
	rested := func() {
		t.Helper()
		require.Eventually(t, func() bool { return runtime.NumGoroutine() < before+watches/10 }, patience, time.Millisecond)
	}
	all := make([]etcd.WatchChan, watches)
	for i := range all {
		of := ctx
		if i%2 == 1 {
			of = canceled
		}
		all[i] = c.Watch(of, p+strconv.Itoa(i))
	}
	rested()
	for round := range 3 {
		for i := range all {
			require.NoError(t, c.Put(ctx, p+strconv.Itoa(i), []byte(strconv.Itoa(round))))
		}
		for _, w := range all {
			r := next(t, w)
			require.NoError(t, r.Err())
			require.Len(t, r.Events, 1)
			require.Equal(t, strconv.Itoa(round), string(r.Events[0].Kv.Value))
		}
		rested()
	}
	cancel()
	for i := 1; i < watches; i += 2 {
		_, open := <-all[i]
		require.False(t, open, "a watch whose context has ended has nothing to say")
	}
	require.NoError(t, c.Close())
	for i := 0; i < watches; i += 2 {
		require.ErrorIs(t, next(t, all[i]).Err(), etcd.ErrClosed)
		_, open := <-all[i]
		require.False(t, open)
	}
}
