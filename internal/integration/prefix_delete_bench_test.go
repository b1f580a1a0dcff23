package integration

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// BenchmarkDeletePrefix measures the deletion of many keys at once and in chunks, and
// what it costs those who read and write single keys meanwhile. ETCD_BENCH_KEYS is the
// number of keys.
func BenchmarkDeletePrefix(b *testing.B) {
	n := 20_000
	if s := os.Getenv("ETCD_BENCH_KEYS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	for name, opts := range map[string][]etcd.DeletePrefixOption{"at-once": nil, "in-chunks": {etcd.InChunks()}} {
		b.Run(name, func(b *testing.B) {
			endpoints := serverProcess(b, withFsync)
			c := client(b, etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(time.Minute))
			neighbour := client(b, etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(time.Minute))
			var took time.Duration
			var slowest float64
			for b.Loop() {
				_, err := c.BulkLoad(b.Context(), numbered("/delete/", n, 100))
				require.NoError(b, err)
				beside := besides(b.Context(), neighbour)
				ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
				began := time.Now()
				deleted, err := c.DeletePrefix(ctx, "/delete/", opts...)
				if etcd.MaybeApplied(err) { // the server doesn't wait longer than 7 s for itself
					b.Logf("%s after %v: %v", name, time.Since(began), err)
					require.ErrorIs(b, err, etcd.ErrTimeout)
					for deleted, err = 0, nil; deleted == 0; {
						left, err := c.Count(ctx, "/delete/")
						require.True(b, err == nil || etcd.IsRetryable(err), err)
						if err == nil && left == 0 {
							deleted = int64(n)
						}
						require.NoError(b, ctx.Err())
					}
				}
				took += time.Since(began)
				cancel()
				_, puts := beside.end()
				require.NoError(b, err)
				require.Equal(b, int64(n), deleted, name)
				b.ReportMetric(percentile(puts, 50), "put-p50-ms")
				b.ReportMetric(percentile(puts, 99), "put-p99-ms")
				slowest = max(slowest, float64(puts[len(puts)-1].Microseconds())/1000)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(n)*float64(b.N)/took.Seconds(), "keys/s")
			b.ReportMetric(slowest, "put-max-ms")
		})
	}
}
