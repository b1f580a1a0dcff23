package integration

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// neighbours are clients that read and write single keys beside something larger, and
// the times that their requests take.
type neighbours struct {
	stop       context.CancelFunc
	wait       sync.WaitGroup
	mu         sync.Mutex
	gets, puts []time.Duration
}

// besides starts one neighbour that reads and one that writes, each every few ms.
func besides(b *testing.B, c *etcd.Client) *neighbours {
	b.Helper()
	n := &neighbours{}
	ctx, stop := context.WithCancel(b.Context())
	n.stop = stop
	every := func(times *[]time.Duration, request func(ctx context.Context) error) {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			began := time.Now()
			if request(ctx) == nil {
				n.mu.Lock()
				*times = append(*times, time.Since(began))
				n.mu.Unlock()
			}
			<-tick.C
		}
	}
	n.wait.Go(func() { every(&n.gets, func(ctx context.Context) error { return second(c.Exists(ctx, "/neighbour")) }) })
	n.wait.Go(func() { every(&n.puts, func(ctx context.Context) error { return c.Put(ctx, "/neighbour", nil) }) })
	return n
}

// report reports the median and the 99th percentile of gets and puts, in ms.
func (n *neighbours) report(b *testing.B) {
	n.stop()
	n.wait.Wait()
	for name, times := range map[string][]time.Duration{"get": n.gets, "put": n.puts} {
		slices.Sort(times)
		for _, p := range []int{50, 99} {
			b.ReportMetric(float64(times[len(times)*p/100].Microseconds())/1000, fmt.Sprint(name, "-p", p, "-ms"))
		}
	}
}

// BenchmarkBeside measures what a load, and the deletion of its keys, cost those who
// read and write single keys meanwhile, by the size of the chunks and how many are
// under way. ETCD_BENCH_KEYS is the number of keys; a rate of 0 is none.
func BenchmarkBeside(b *testing.B) {
	n := 20_000
	if s := os.Getenv("ETCD_BENCH_KEYS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	for _, set := range []struct{ size, parallel, keys, rate int }{
		{100, 4, 500, 0},
		{100, 4, 128, 0},
		{100, 2, 250, 0},
		{100, 2, 128, 0},
		{100, 4, 128, 10_000},
		{1000, 4, 256, 0},
		{1000, 4, 128, 0},
		{1000, 4, 64, 0},
		{1000, 2, 128, 0},
	} {
		b.Run(fmt.Sprintf("%dB-%dx%d-rate%d", set.size, set.parallel, set.keys, set.rate), func(b *testing.B) {
			endpoints := serverProcess(b, withFsync)
			cfg := func() *etcd.Config { return etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(busyTimeout) }
			c, err := etcd.NewClient(cfg())
			require.NoError(b, err)
			defer func() { require.NoError(b, c.Close()) }()
			other, err := etcd.NewClient(cfg())
			require.NoError(b, err)
			defer func() { require.NoError(b, other.Close()) }()
			beside := besides(b, other)
			var took time.Duration
			for b.Loop() {
				began := time.Now()
				_, err := c.BulkLoad(b.Context(), numbered("/load/", n, set.size),
					etcd.WithParallelism(set.parallel), etcd.WithChunkKeys(set.keys), etcd.WithKeysPerSecond(set.rate))
				require.NoError(b, err)
				took += time.Since(began)
			}
			beside.report(b)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(n)*float64(b.N)/took.Seconds(), "keys/s")
		})
	}
}
