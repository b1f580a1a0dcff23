package integration

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// BenchmarkGuardedPut measures a put that is bound to a lock beside a plain one, in turns, on a
// server process that syncs its disk: the medians, and the median of the ratios of neighbours.
func BenchmarkGuardedPut(b *testing.B) {
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(serverProcess(b, withFsync)...).WithTimeout(busyTimeout))
	require.NoError(b, err)
	defer func() { require.NoError(b, c.Close()) }()
	lock := newLock(b, c, "/lock")
	require.NoError(b, lock.Lock(b.Context()))
	ways := [2]context.Context{b.Context(), lock.Guard(b.Context())}
	var times [2][]float64
	for round := 0; b.Loop(); round++ {
		for i := range ways {
			i = (i + round) % len(ways) // none always goes first
			began := time.Now()
			require.NoError(b, c.Put(ways[i], "/key", []byte("value")))
			times[i] = append(times[i], float64(time.Since(began).Microseconds()))
		}
	}
	ratios := make([]float64, len(times[0]))
	for i := range ratios {
		ratios[i] = times[1][i] / times[0][i]
	}
	b.ReportMetric(0, "ns/op") // of both together
	b.ReportMetric(median(slices.Clone(times[0])), "plain-µs")
	b.ReportMetric(median(slices.Clone(times[1])), "guarded-µs")
	b.ReportMetric(median(ratios), "guarded-times")
}
