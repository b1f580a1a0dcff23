package integration

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/blueprint-go/etcd"
)

// BenchmarkThousandLocksHeld measures what a thousand locks cost that are held on one session,
// beside as many of package concurrency: leases, renewals and other requests a second, and
// memory for each lock in this process, which also runs the server.
func BenchmarkThousandLocksHeld(b *testing.B) {
	const (
		n      = 1000
		window = 15 * time.Second
		ttl    = 15
	)
	srv, o := observedServer(b)
	c := client(b, config(srv).WithTimeout(busyTimeout))
	var renewals, requests atomic.Int64
	o.around(func(req any) {
		if _, ok := req.(*pb.LeaseKeepAliveRequest); ok {
			renewals.Add(1)
		} else {
			requests.Add(1)
		}
	}, nil)
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc + m.StackInuse)
	}
	measure := func(name string, hold func(i int)) {
		before := heap()
		for i := range n {
			hold(i)
		}
		after := heap()
		renewals.Store(0)
		requests.Store(0)
		began := time.Now()
		<-time.After(window)
		seconds := time.Since(began).Seconds()
		b.ReportMetric(float64(renewals.Load())/seconds, name+"-renewals/s")
		b.ReportMetric(float64(requests.Load())/seconds, name+"-requests/s")
		b.ReportMetric((after-before)/n, name+"-B/lock")
	}
	for b.Loop() {
		theirs, err := concurrency.NewSession(c.Raw(), concurrency.WithTTL(ttl))
		require.NoError(b, err)
		measure("concurrency", func(i int) {
			require.NoError(b, concurrency.NewMutex(theirs, fmt.Sprint("/theirs/", i)).Lock(b.Context()))
		})
		require.NoError(b, theirs.Close())

		s := newSession(b, c, etcd.WithSessionTTL(ttl*time.Second))
		var locks []*etcd.Lock
		measure("session", func(i int) {
			l, err := c.NewLock(fmt.Sprint("/ours/", i), etcd.WithSession(s))
			require.NoError(b, err)
			require.NoError(b, l.Lock(b.Context()))
			locks = append(locks, l)
		})
		leases, err := c.Raw().Leases(b.Context())
		require.NoError(b, err)
		b.ReportMetric(float64(len(leases.Leases)), "leases")
		require.NoError(b, s.Close(b.Context()))
		for _, l := range locks {
			require.NoError(b, l.Close())
		}
	}
	b.ReportMetric(0, "ns/op")
}
