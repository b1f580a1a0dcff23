package integration

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// BenchmarkBeside measures what a load costs those who read and write single keys
// meanwhile, by the size of the chunks and how many are under way. The ways take turns
// in each round; what is reported of each are the medians over the rounds: the keys per
// second, the neighbours' times, and how many times those of the first way (4 chunks of
// 128) they are in the same round. ETCD_BENCH_KEYS is the number of keys.
func BenchmarkBeside(b *testing.B) {
	n := 20_000
	if s := os.Getenv("ETCD_BENCH_KEYS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) { benchmarkBeside(b, n, size) })
	}
}

func benchmarkBeside(b *testing.B, n, size int) {
	endpoints := serverProcess(b, withFsync)
	var clients [2]*etcd.Client
	for i := range clients {
		c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(busyTimeout))
		require.NoError(b, err)
		defer func() { require.NoError(b, c.Close()) }()
		clients[i] = c
	}
	ways := []struct{ parallel, keys, rate int }{{4, 128, 0}, {4, 500, 0}, {2, 250, 0}, {2, 128, 0}, {4, 128, 10_000}}
	var figures []map[string][]float64 // of each way: by name, over the rounds
	for range ways {
		figures = append(figures, map[string][]float64{})
	}
	for round := 0; b.Loop(); round++ {
		for i := range ways {
			i = (i + round) % len(ways) // none always goes first
			way := ways[i]
			beside := besides(b.Context(), clients[1])
			began := time.Now()
			_, err := clients[0].BulkLoad(b.Context(), numbered("/load/", n, size),
				etcd.WithParallelism(way.parallel), etcd.WithChunkKeys(way.keys), etcd.WithKeysPerSecond(way.rate))
			took := time.Since(began)
			gets, puts := beside.end()
			require.NoError(b, err)
			for name, figure := range map[string]float64{
				"keys/s": float64(n) / took.Seconds(), "get-p50-ms": percentile(gets, 50), "get-p99-ms": percentile(gets, 99),
				"put-p50-ms": percentile(puts, 50), "put-p99-ms": percentile(puts, 99),
			} {
				figures[i][name] = append(figures[i][name], figure)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of all ways together
	for i, way := range ways {
		for name, rounds := range figures[i] {
			ratios := make([]float64, len(rounds))
			for round := range rounds {
				ratios[round] = rounds[round] / figures[0][name][round]
			}
			label := fmt.Sprintf("%dx%d-", way.parallel, way.keys)
			if way.rate > 0 {
				label = fmt.Sprintf("%s%d/s-", label, way.rate)
			}
			if i > 0 {
				b.ReportMetric(median(ratios), label+name+"-times")
			}
			b.ReportMetric(median(slices.Clone(rounds)), label+name)
		}
	}
}
