package integration

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

// BenchmarkQueue measures pushes by 16 callers, and jobs taken and acknowledged by 8 consumers,
// each with a client of its own, on a server in a process of its own.
func BenchmarkQueue(b *testing.B) {
	endpoints := serverProcess(b)
	cfg := func() *etcd.Config { return etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(busyTimeout) }
	name := 0
	fill := func(b *testing.B) {
		b.Helper()
		q := openQueueOf[int](b, client(b, cfg()), benchmarkQueue(name))
		var wg sync.WaitGroup
		var next atomic.Int64
		for range 16 {
			wg.Go(func() {
				for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
					if err := q.Push(b.Context(), int(i)); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	b.Run("push", func(b *testing.B) {
		name++
		b.ReportAllocs()
		fill(b)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
	b.Run("pop", func(b *testing.B) {
		name++
		fill(b)
		const consumers = 8
		var queues []*jobqueue.Queue[int]
		for range consumers {
			queues = append(queues, openQueueOf[int](b, client(b, cfg()), benchmarkQueue(name)))
		}
		var wg sync.WaitGroup
		var done atomic.Int64
		b.ReportAllocs()
		b.ResetTimer()
		for _, q := range queues {
			wg.Go(func() {
				for {
					j, err := q.TryPop(b.Context())
					if errors.Is(err, jobqueue.ErrEmpty) {
						return
					}
					if err == nil {
						err = j.Ack(b.Context())
					}
					if err != nil {
						b.Error(err)
						return
					}
					done.Add(1)
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		require.EqualValues(b, b.N, done.Load())
	})
}

func benchmarkQueue(n int) string {
	return "/queues/" + string(rune('a'+n%26)) + string(rune('a'+n/26%26))
}
