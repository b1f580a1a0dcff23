package integration

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// loaded stores n small values under prefix, in few revisions.
func loaded(t testing.TB, c *etcd.Client, prefix string, n int) {
	t.Helper()
	value := make([]byte, 200)
	_, err := c.BulkLoad(within(t, patience), func(yield func(string, []byte) bool) {
		for i := range n {
			if !yield(fmt.Sprintf("%s%07d", prefix, i), value) {
				return
			}
		}
	})
	require.NoError(t, err)
}

// count reads n events of a watch and returns how long that took.
func count(t testing.TB, w etcd.WatchChan, n int) time.Duration {
	t.Helper()
	began, last, seen := time.Now(), int64(0), 0
	for seen < n {
		r := next(t, w)
		require.NoError(t, r.Err())
		require.Greater(t, r.Events[0].Kv.ModRevision, last, "a torn revision")
		last, seen = r.Revision, seen+len(r.Events)
	}
	require.Equal(t, n, seen)
	return time.Since(began)
}

// countRaw is count for clientv3.
func countRaw(t testing.TB, w clientv3.WatchChan, n int) time.Duration {
	t.Helper()
	began := time.Now()
	for n > 0 {
		n -= len(next(t, w).Events)
	}
	return time.Since(began)
}

func TestManySmallEventsArePrompt(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, 2*patience)
	const n = 200_000 // more than the limit of a response on a shared stream
	loaded(t, c, p, n)
	theirs := countRaw(t, c.Raw().Watch(ctx, p, clientv3.WithPrefix(), clientv3.WithRev(2)), n)
	ours := count(t, c.WatchPrefix(ctx, p, etcd.WithRevision(2)), n)
	t.Logf("%d events: %v, clientv3 %v", n, ours.Round(time.Millisecond), theirs.Round(time.Millisecond))
	require.Less(t, ours, 10*theirs+5*time.Second)
}

func TestLargeValuesComeInPortions(t *testing.T) {
	endpoints := serverProcess(t)
	c := client(t, etcd.DefaultConfig().WithEndpoints(endpoints...))
	p, ctx := prefix(t), within(t, 2*patience)
	const n, size = 200, 1_500_000
	value := make([]byte, size)
	for i := range n {
		copy(value, fmt.Sprintf("%08d", i))
		require.NoError(t, c.Put(ctx, p+strconv.Itoa(i), value))
	}
	var most uint64
	before := inUse()
	w := c.WatchPrefix(ctx, p, etcd.WithRevision(2))
	for i := 0; i < n; {
		r := next(t, w)
		require.NoError(t, r.Err())
		for _, e := range r.Events {
			require.Equal(t, fmt.Sprintf("%08d", i), string(e.Kv.Value[:8]))
			require.Len(t, e.Kv.Value, size)
			i++
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	grown := int64(most) - before
	t.Logf("%d values of %d bytes: heap grown by up to %d MB", n, size, grown>>20)
	require.Less(t, grown, int64(n*size/2))
}
