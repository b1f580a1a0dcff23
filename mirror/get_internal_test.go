package mirror

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// filled returns a mirror of n keys with values of a size, and some of the keys.
func filled(n, size int) (m *Mirror, asked []string) {
	m = newFed()
	d := newState(m.prefix, m.applied.table.seed, 1).draft()
	for i := range n {
		key := fmt.Sprintf("/p/services/%08d", i)
		d.load(d.newEntry(etcd.KeyValue{Key: key, Value: make([]byte, size), ModRevision: 1}, nil))
	}
	m.install(d.done())
	for range min(n, 1<<16) {
		asked = append(asked, fmt.Sprintf("/p/services/%08d", rand.IntN(n)))
	}
	return m, asked
}

func TestReadsAllocateNothing(t *testing.T) {
	m, asked := filled(10_000, 16)
	defer m.Close()
	typed := Typed[string]{mirror: newFed(), prefix: "/p/"}
	defer typed.Close()
	d := typed.mirror.applied.draft()
	d.put(d.newEntry(etcd.KeyValue{Key: "/p/a"}, &etcd.TypedValue[string]{Name: "a", Value: "v"}))
	typed.mirror.publish(d.done())
	i := 0
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		i++
		if kv, ok := m.Get(asked[i%len(asked)]); !ok || len(kv.Value) != 16 {
			t.Error("missing")
		}
		if _, ok := m.Get("/p/missing"); ok {
			t.Error("there")
		}
		s := m.Snapshot()
		if s.Len() != 10_000 || s.Revision() != m.Revision() {
			t.Error("wrong")
		}
		if v, ok := typed.Get("a"); !ok || v.Value != "v" {
			t.Error("missing")
		}
	}))
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		m, asked := filled(n, 256)
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok := m.Get(asked[i%len(asked)]); !ok {
					b.Fatal("missing")
				}
			}
		})
		m.Close()
	}
}

// BenchmarkApply is what a revision of one key costs the mirror.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		m, asked := filled(n, 256)
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				kv := &etcd.KeyValue{Key: asked[i%len(asked)], ModRevision: m.applied.revision + 1}
				kv.Value = []byte{1}
				m.apply(etcd.WatchResponse{Events: []*etcd.Event{{Kv: kv}}, Revision: kv.ModRevision})
			}
		})
		m.Close()
	}
}

// BenchmarkMemory is what a key takes, with a key of 20 bytes and a value of 256.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				m, _ := filled(n, 256)
				b.ReportMetric(float64(heap()-before)/float64(n), "B/key")
				m.Close()
				runtime.KeepAlive(m)
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one found in pools
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
