package integration

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// Measurements beside clientv3, in one run each:
//
//	go test -run '^$' -bench BenchmarkWatch -benchtime 1x ./internal/integration

// BenchmarkWatchIdle measures what an idle watch takes in the client.
func BenchmarkWatchIdle(b *testing.B) {
	const watches = 10_000
	endpoints := serverProcess(b)
	for range b.N {
		ours := client(b, etcd.DefaultConfig().WithEndpoints(endpoints...))
		raw := client(b, etcd.DefaultConfig().WithEndpoints(endpoints...)).Raw()
		for name, watch := range map[string]func(context.Context, string) any{
			"etcd":     func(ctx context.Context, key string) any { return ours.Watch(ctx, key) },
			"clientv3": func(ctx context.Context, key string) any { return raw.Watch(ctx, key) },
		} {
			ctx, cancel := context.WithCancel(b.Context())
			watch(ctx, "/warm")
			bytes, stacks, goroutines := inUse(), stackBytes(), runtime.NumGoroutine()
			began := time.Now()
			keep := make([]any, watches)
			for i := range keep {
				keep[i] = watch(ctx, fmt.Sprintf("/idle/%d", i))
			}
			took := time.Since(began)
			b.ReportMetric(float64(inUse()-bytes)/watches, name+"-heap-B/watch")
			b.ReportMetric(float64(stackBytes()-stacks)/watches, name+"-stack-B/watch")
			b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/watches, name+"-goroutines/watch")
			b.ReportMetric(took.Seconds(), name+"-s")
			runtime.KeepAlive(keep)
			cancel()
		}
	}
}

// BenchmarkWatchBeside measures puts beside a thousand idle watches of the same
// client, in turns with puts of a client without.
func BenchmarkWatchBeside(b *testing.B) {
	for _, limit := range []uint32{math.MaxUint32, 100} {
		b.Run(fmt.Sprintf("streams=%d", limit), func(b *testing.B) {
			var streams watchStreams
			srv := server(b, streams.option(limit))
			alone, beside := client(b, config(srv)), client(b, config(srv))
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			for i := range 1000 {
				beside.Watch(ctx, "/idle/"+strconv.Itoa(i))
			}
			puts := func(c *etcd.Client) float64 {
				began := time.Now()
				for i := range 2000 {
					require.NoError(b, c.Put(ctx, "/k"+strconv.Itoa(i%10), []byte("v")))
				}
				return 2000 / time.Since(began).Seconds()
			}
			var ratios []float64
			for range b.N {
				for i := range 15 {
					var with, without float64
					if i%2 == 0 {
						with, without = puts(beside), puts(alone)
					} else {
						without, with = puts(alone), puts(beside)
					}
					ratios = append(ratios, with/without)
				}
			}
			slices.Sort(ratios)
			n := len(ratios)
			b.ReportMetric(ratios[n/2], "ratio")
			b.ReportMetric(ratios[n/4], "ratio-25%")
			b.ReportMetric(ratios[n*3/4], "ratio-75%")
			b.ReportMetric(float64(streams.most.Load()), "streams")
		})
	}
}

// BenchmarkWatchLoad measures what a load costs a watch that resumes behind it, and the
// server, whose CPU time the process counts.
func BenchmarkWatchLoad(b *testing.B) {
	for range b.N {
		child := childServer(b)
		c := client(b, etcd.DefaultConfig().WithEndpoints(child.endpoint).WithTimeout(time.Minute))
		ctx := b.Context()
		const keys = 50_000
		loaded(b, c, "/load/", keys)
		report := func(name string, f func()) {
			began, cpu := time.Now(), child.cpu(b)
			f()
			b.ReportMetric(time.Since(began).Seconds(), name+"-s")
			b.ReportMetric((child.cpu(b) - cpu).Seconds(), name+"-cpu-s")
		}
		ours := func(prefix string, n int) func() {
			return func() {
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				count(b, c.WatchPrefix(ctx, prefix, etcd.WithRevision(2)), n)
			}
		}
		theirs := func(prefix string, n int) func() {
			return func() {
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				countRaw(b, c.Raw().Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(2)), n)
			}
		}
		report("resume-clientv3", theirs("/load/", keys))
		report("resume-etcd", ours("/load/", keys))

		const large = 200
		for i := range large {
			require.NoError(b, c.Put(ctx, "/large/"+strconv.Itoa(i), make([]byte, 1_500_000)))
		}
		report("large-clientv3", theirs("/large/", large))
		report("large-etcd", ours("/large/", large))

		loaded(b, c, "/mass/", 100_000)
		resp, err := c.Raw().Get(ctx, "k")
		require.NoError(b, err)
		for _, name := range []string{"delete-clientv3", "delete-etcd"} {
			if name == "delete-etcd" {
				loaded(b, c, "/mass/", 100_000)
				resp, err = c.Raw().Get(ctx, "k")
				require.NoError(b, err)
			}
			watching, cancel := context.WithCancel(ctx)
			var wait []func()
			for range 50 {
				if name == "delete-etcd" {
					w := c.WatchPrefix(watching, "/mass/", etcd.WithRevision(resp.Header.Revision+1))
					wait = append(wait, func() { count(b, w, 100_000) })
				} else {
					w := c.Raw().Watch(watching, "/mass/", clientv3.WithPrefix(), clientv3.WithRev(resp.Header.Revision+1))
					wait = append(wait, func() { countRaw(b, w, 100_000) })
				}
			}
			report(name, func() {
				_, err := c.DeletePrefix(ctx, "/mass/")
				require.NoError(b, err)
				for _, f := range wait {
					f()
				}
			})
			cancel()
		}
	}
}
