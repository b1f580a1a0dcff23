//go:build long

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

// This test measures the heap of the process, so it is not parallel.
func TestUnreadWatchCostsLittleAndDelaysNobody(t *testing.T) {
	endpoints := serverProcess(t)
	writer := client(t, etcd.DefaultConfig().WithEndpoints(endpoints...))
	c := client(t, etcd.DefaultConfig().WithEndpoints(endpoints...))
	p, ctx := prefix(t), within(t, 2*patience)
	unread := c.WatchPrefix(ctx, p+"big/")
	const n, size = 100, 1 << 20
	value := make([]byte, size)

	before := inUse()
	for i := range n {
		copy(value, fmt.Sprintf("%08d", i))
		require.NoError(t, writer.Put(ctx, p+"big/k", value))
	}
	other := c.Watch(ctx, p+"other")
	require.NoError(t, writer.Put(ctx, p+"other", []byte("v")))
	require.Equal(t, "v", string(events(t, other, 1)[0].Kv.Value))
	require.NoError(t, c.Put(ctx, p+"other", nil))

	grown := inUse() - before
	t.Logf("%d MB unread, heap grown by %.1f MB", n*size>>20, float64(grown)/(1<<20))
	require.Less(t, grown, int64(n*size/4))

	// All of it comes once it is read, and in portions.
	var largest int
	for i := 0; i < n; {
		r := next(t, unread)
		require.NoError(t, r.Err())
		largest = max(largest, len(r.Events))
		for _, e := range r.Events {
			require.Equal(t, fmt.Sprintf("%08d", i), string(e.Kv.Value[:8]))
			i++
		}
	}
	t.Logf("delivered up to %d events of 1 MB at once", largest)
	require.LessOrEqual(t, largest, 4)
}
