package integration

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// BenchmarkGuardedPut measures a put that is bound to a lock beside a plain one and beside one
// WithCondition by hand, in turns, on a server process that syncs its disk, and on a cluster of
// three of them: the medians, and the medians of how many times as long each took as the plain one
// of its round.
func BenchmarkGuardedPut(b *testing.B) {
	b.Run("one-member", func(b *testing.B) { guardedPut(b, serverProcess(b, withFsync)) })
	b.Run("three-members", func(b *testing.B) {
		b.Setenv(withFsync, "1") // for the members
		guardedPut(b, newCluster(b).addrs()[:1])
	})
}

// guardedPut is BenchmarkGuardedPut on a cluster by those endpoints; by several, the ways of a round
// would meet different members.
func guardedPut(b *testing.B, endpoints []string) {
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(busyTimeout))
	require.NoError(b, err)
	defer func() { require.NoError(b, c.Close()) }()
	lock := newLock(b, c, "/lock")
	require.NoError(b, lock.Lock(b.Context()))
	guarded := lock.Guard(b.Context())
	put := func(ctx context.Context, opts ...etcd.PutOption) func() error {
		return func() error { return c.Put(ctx, "/key", []byte("value"), opts...) }
	}
	ways := []struct {
		name string
		put  func() error
	}{{"plain", put(b.Context())}, {"by-hand", put(b.Context(), etcd.WithCondition(lock.Held()))}, {"guarded", put(guarded)}}
	times := make([][]float64, len(ways))
	for round := 0; b.Loop(); round++ {
		for i := range ways {
			i = (i + round) % len(ways) // none always goes first
			began := time.Now()
			require.NoError(b, ways[i].put())
			times[i] = append(times[i], float64(time.Since(began).Microseconds()))
		}
	}
	b.ReportMetric(0, "ns/op") // of all ways together
	for i, way := range ways {
		ratios := make([]float64, len(times[i]))
		for round := range ratios {
			ratios[round] = times[i][round] / times[0][round]
		}
		b.ReportMetric(median(slices.Clone(times[i])), way.name+"-µs")
		if i > 0 {
			b.ReportMetric(median(ratios), way.name+"-times")
		}
	}
}
