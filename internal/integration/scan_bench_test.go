package integration

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd"
)

// BenchmarkScan reads all keys under a prefix by a scan, by one RangeStream and by
// one Get of clientv3, in turn. It reports the time of each, the median of the
// scan's time divided by that of the faster raw way in the same round, the time to
// the first key of the scan, and what one more scan adds to the heap. ETCD_BENCH_KEYS is the number of keys.
func BenchmarkScan(b *testing.B) {
	n := 20_000
	if s := os.Getenv("ETCD_BENCH_KEYS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	const p = "/many/"
	endpoints := serverProcess(b)
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(busyTimeout))
	require.NoError(b, err)
	defer func() { require.NoError(b, c.Close()) }()
	raw, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	require.NoError(b, err)
	defer func() { require.NoError(b, raw.Close()) }()
	load(b, c, p, n, 200)

	var first []float64
	ways := []struct {
		name string
		read func(context.Context) int
	}{
		{"scan", func(ctx context.Context) (keys int) {
			began := time.Now()
			for _, err := range c.Scan(ctx, p) {
				if err != nil {
					require.NoError(b, err)
				}
				if keys++; keys == 1 {
					first = append(first, float64(time.Since(began))/1e6)
				}
			}
			return keys
		}},
		{"stream", func(ctx context.Context) (keys int) {
			stream, err := raw.GetStream(ctx, p, clientv3.WithPrefix())
			require.NoError(b, err)
			for chunk := range stream {
				require.NoError(b, chunk.Err())
				keys += len(chunk.GetKvs())
			}
			return keys
		}},
		{"get", func(ctx context.Context) int {
			resp, err := raw.Get(ctx, p, clientv3.WithPrefix())
			require.NoError(b, err)
			return len(resp.Kvs)
		}},
	}
	spent := make([][]float64, len(ways))
	var ratios []float64
	for round := 0; b.Loop(); round++ {
		times := make([]float64, len(ways))
		for i := range ways {
			i = (i + round) % len(ways) // none always goes first
			runtime.GC()
			began := time.Now()
			require.Equal(b, n, ways[i].read(b.Context()))
			times[i] = time.Since(began).Seconds()
			spent[i] = append(spent[i], times[i])
		}
		ratios = append(ratios, times[0]/min(times[1], times[2]))
	}
	b.ReportMetric(0, "ns/op") // of all ways together
	for i, way := range ways {
		b.ReportMetric(1000*median(spent[i]), way.name+"-ms")
	}
	b.ReportMetric(median(ratios), "ratio-median")
	b.ReportMetric(median(first), "first-key-ms")
	b.ReportMetric(slices.Max(first), "first-key-max-ms")
	_, growth := scanWatchingTheHeap(b, c, p, 0)
	b.ReportMetric(float64(growth)/(1<<20), "heap-growth-MiB")
}
