package integration

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
	"github.com/blueprint-go/etcd/mirror"
)

// Measurements of mirrors:
//
//	go test -run '^$' -bench BenchmarkMirror -benchtime 1x ./internal/integration
//
// ETCD_BENCH_KEYS is the number of keys, 100,000 unless it is set; each has 256 bytes.

func mirrorKeys(b *testing.B) int {
	b.Helper()
	n := 100_000
	if s := os.Getenv("ETCD_BENCH_KEYS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	return n
}

func mirrorKey(i int) string { return fmt.Sprintf("/mirror/%08d", i) }

// filledProcess returns the endpoints of a server with n keys.
func filledProcess(b *testing.B, n int) []string {
	b.Helper()
	endpoints := serverProcess(b)
	c := client(b, etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(busyTimeout))
	value := make([]byte, 256)
	_, err := c.BulkLoad(b.Context(), func(yield func(string, []byte) bool) {
		for i := 0; i < n && yield(mirrorKey(i), value); i++ {
		}
	}, etcd.WithChunkKeys(2000))
	require.NoError(b, err)
	return endpoints
}

// peak returns the most bytes of heap and stacks that the process has during f.
func peak(f func()) (bytes uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	done := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			metrics.Read(sample)
			now := uint64(0)
			for _, s := range sample {
				now += s.Value.Uint64()
			}
			bytes = max(bytes, now)
			select {
			case <-ticker.C:
			case <-done:
				return
			}
		}
	})
	f()
	close(done)
	looking.Wait()
	return bytes
}

// BenchmarkMirrorLoad measures how long it takes to open a mirror, and what it takes then:
// in bytes for each key beside the 256 of its value, and in bytes at the worst moment.
func BenchmarkMirrorLoad(b *testing.B) {
	n := mirrorKeys(b)
	endpoints := filledProcess(b, n)
	c := client(b, etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(busyTimeout))
	for range b.N {
		before := inUse()
		var m *mirror.Mirror
		var took time.Duration
		most := peak(func() {
			began := time.Now()
			var err error
			m, err = mirror.Open(b.Context(), c, "/mirror/")
			require.NoError(b, err)
			took = time.Since(began)
		})
		require.Equal(b, n, m.Len())
		b.ReportMetric(took.Seconds(), "s")
		b.ReportMetric(float64(inUse()-before)/float64(n), "B/key")
		b.ReportMetric(float64(most)/float64(n), "peak-B/key")
		runtime.KeepAlive(m)
		m.Close()
	}
}

// BenchmarkMirrorGet measures reads of random keys beside linearizable gets of clientv3, by
// one caller and by as many as there are processors.
func BenchmarkMirrorGet(b *testing.B) {
	n := mirrorKeys(b)
	c := client(b, etcd.DefaultConfig().WithEndpoints(filledProcess(b, n)...).WithTimeout(busyTimeout))
	m, err := mirror.Open(b.Context(), c, "/mirror/")
	require.NoError(b, err)
	b.Cleanup(m.Close)
	keys := make([]string, 1<<16)
	for i := range keys {
		keys[i] = mirrorKey(i * 7919 % n)
	}
	get := func(i int) bool {
		_, ok := m.Get(keys[i%len(keys)])
		return ok
	}
	b.Run("mirror", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			if !get(i) {
				b.Fatal("missing")
			}
		}
	})
	b.Run("mirror-parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if !get(i) {
					panic("missing")
				}
			}
		})
	})
	b.Run("clientv3", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			require.NoError(b, second(c.Raw().Get(b.Context(), keys[i%len(keys)])))
		}
	})
}

// BenchmarkMirrorRecovery measures how long after the end of a cut of all connections a
// mirror has what was written meanwhile. It reports the median and the worst of fifty.
func BenchmarkMirrorRecovery(b *testing.B) {
	srv := etcdtest.New(b)
	proxy := etcdtest.NewProxy(b, srv.Endpoint())
	c, direct := client(b, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint())), client(b, config(srv))
	m, err := mirror.Open(b.Context(), c, "/mirror/")
	require.NoError(b, err)
	b.Cleanup(m.Close)
	for range b.N {
		var took []float64
		for range 50 {
			proxy.Refuse()
			proxy.Cut()
			require.Eventually(b, func() bool { return !m.Status().Connected }, patience, time.Millisecond)
			var result etcd.WriteResult
			require.NoError(b, direct.Put(b.Context(), "/mirror/k", nil, etcd.WithResult(&result)))
			proxy.Heal()
			began := time.Now()
			require.NoError(b, m.WaitFor(b.Context(), result.Revision))
			took = append(took, time.Since(began).Seconds()*1000)
		}
		slices.Sort(took)
		b.ReportMetric(median(took), "median-ms")
		b.ReportMetric(took[len(took)-1], "worst-ms")
	}
}
