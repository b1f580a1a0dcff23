package integration

import (
	"context"
	"iter"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd"
)

// BenchmarkLoad stores keys by a load, by clientv3's transactions of 128 one after
// another, and by clientv3's puts one after another, in turn. It reports the keys
// per second of each, and the medians of how many times as many the load stored as
// the others in the same round, with the quartiles. ETCD_BENCH_KEYS is the number of
// keys; a tenth of them is put one by one.
func BenchmarkLoad(b *testing.B) {
	n := 20_000
	if s := os.Getenv("ETCD_BENCH_KEYS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	for name, variables := range map[string][]string{"memory": nil, "fsync": {withFsync}} {
		b.Run(name, func(b *testing.B) { benchmarkLoad(b, n, serverProcess(b, variables...)) })
	}
}

func benchmarkLoad(b *testing.B, n int, endpoints []string) {
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(busyTimeout))
	require.NoError(b, err)
	defer func() { require.NoError(b, c.Close()) }()
	raw, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	require.NoError(b, err)
	defer func() { require.NoError(b, raw.Close()) }()

	ways := []struct {
		name string
		keys int
		load func(ctx context.Context, kvs iter.Seq2[string, []byte])
	}{
		{"load", n, func(ctx context.Context, kvs iter.Seq2[string, []byte]) {
			require.NoError(b, second(c.BulkLoad(ctx, kvs)))
		}},
		{"txns", n, func(ctx context.Context, kvs iter.Seq2[string, []byte]) {
			var ops []clientv3.Op
			commit := func() {
				require.NoError(b, second(raw.Txn(ctx).Then(ops...).Commit()))
				ops = ops[:0]
			}
			for key, value := range kvs {
				if ops = append(ops, clientv3.OpPut(key, string(value))); len(ops) == 128 {
					commit()
				}
			}
			commit()
		}},
		{"puts", n / 10, func(ctx context.Context, kvs iter.Seq2[string, []byte]) {
			for key, value := range kvs {
				require.NoError(b, second(raw.Put(ctx, key, string(value))))
			}
		}},
	}
	rates := make([][]float64, len(ways))
	for round := 0; b.Loop(); round++ {
		for i := range ways {
			i = (i + round) % len(ways) // none always goes first
			runtime.GC()
			began := time.Now()
			ways[i].load(b.Context(), numbered("/load/", ways[i].keys, 100))
			rates[i] = append(rates[i], float64(ways[i].keys)/time.Since(began).Seconds())
		}
	}
	b.ReportMetric(0, "ns/op") // of all ways together
	for i, way := range ways {
		if i > 0 {
			ratios := make([]float64, len(rates[0]))
			for round := range ratios {
				ratios[round] = rates[0][round] / rates[i][round]
			}
			b.ReportMetric(median(ratios), "times-"+way.name)
			b.ReportMetric(ratios[len(ratios)/4], "times-"+way.name+"-q1")
			b.ReportMetric(ratios[len(ratios)*3/4], "times-"+way.name+"-q3")
		}
	}
	for i, way := range ways {
		b.ReportMetric(median(rates[i]), way.name+"-keys/s")
	}
}
