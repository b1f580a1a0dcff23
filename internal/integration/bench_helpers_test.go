package integration

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/blueprint-go/etcd"
)

// neighbours are clients that read and write single keys beside something larger, and
// the times that their requests take.
type neighbours struct {
	stop context.CancelFunc
	wait sync.WaitGroup
	gets []time.Duration // of one goroutine each, until it has ended
	puts []time.Duration
}

// besides starts one neighbour that reads and one that writes, each every 2 ms. A
// request that is under way at the end is waited for: it may be the one that was held up
// longest, and each neighbour has made one at least.
func besides(ctx context.Context, c *etcd.Client) *neighbours {
	n := &neighbours{}
	ending, stop := context.WithCancel(ctx)
	n.stop = stop
	every := func(times *[]time.Duration, request func(ctx context.Context) error) {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			began := time.Now()
			if request(ctx) == nil {
				*times = append(*times, time.Since(began))
			}
			select {
			case <-ending.Done():
				return
			case <-tick.C:
			}
		}
	}
	n.wait.Go(func() { every(&n.gets, func(ctx context.Context) error { return second(c.Exists(ctx, "/neighbour")) }) })
	n.wait.Go(func() { every(&n.puts, func(ctx context.Context) error { return c.Put(ctx, "/neighbour", nil) }) })
	return n
}

// end ends them, and returns the times of both, from the shortest.
func (n *neighbours) end() (gets, puts []time.Duration) {
	n.stop()
	n.wait.Wait()
	slices.Sort(n.gets)
	slices.Sort(n.puts)
	return n.gets, n.puts
}

// percentile returns a percentile of sorted times, in ms.
func percentile(times []time.Duration, p int) float64 {
	return float64(times[len(times)*p/100].Microseconds()) / 1000
}
