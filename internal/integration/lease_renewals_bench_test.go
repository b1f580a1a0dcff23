package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// keepers are ways to keep n leases of a time to live at an endpoint. Each returns a
// function that counts those that were lost.
var keepers = []struct {
	name string
	keep func(b *testing.B, endpoint string, n int, ttl time.Duration) (lost func() int)
}{
	{"clientv3 sessions", func(b *testing.B, endpoint string, n int, ttl time.Duration) func() int {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, c.Close()) })
		sessions := make([]*concurrency.Session, n)
		inParallel(n, ttl/3, func(i int) {
			sessions[i], err = concurrency.NewSession(c, concurrency.WithTTL(int(ttl/time.Second)))
		})
		require.NoError(b, err)
		return func() (lost int) {
			for _, s := range sessions {
				select {
				case <-s.Done():
					lost++
				default:
				}
			}
			return lost
		}
	}},
	{"etcd leases", func(b *testing.B, endpoint string, n int, ttl time.Duration) func() int {
		c := client(b, etcd.DefaultConfig().WithEndpoints(endpoint))
		alive := make([]<-chan etcd.KeepAliveResponse, n)
		var failed error
		inParallel(n, ttl/3, func(i int) {
			id, err := c.Grant(b.Context(), ttl)
			if err == nil {
				alive[i], err = c.KeepAlive(b.Context(), id)
			}
			if err != nil {
				failed = err
			}
		})
		require.NoError(b, failed)
		return func() (lost int) {
			for _, renewals := range alive {
				if len(renewals) > 0 && (<-renewals).Err() != nil {
					lost++
				}
			}
			return lost
		}
	}},
	{"etcd locks", func(b *testing.B, endpoint string, n int, ttl time.Duration) func() int {
		c := client(b, etcd.DefaultConfig().WithEndpoints(endpoint))
		locks := make([]*etcd.Lock, n)
		var failed error
		inParallel(n, ttl/3, func(i int) {
			l, err := c.NewLock(fmt.Sprint("/locks/", i), etcd.WithLockTTL(ttl))
			if err == nil {
				err = l.Lock(b.Context())
			}
			if locks[i] = l; err != nil {
				failed = err
			}
		})
		require.NoError(b, failed)
		return func() (lost int) {
			for _, l := range locks {
				if l.Context().Err() != nil {
					lost++
				}
			}
			return lost
		}
	}},
}

// inParallel calls f for 0 to n-1, some at once, and takes d for it: leases that begin
// together are renewed together.
func inParallel(n int, d time.Duration, f func(i int)) {
	const workers = 16
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			pace := time.NewTicker(max(1, d*workers/time.Duration(n)))
			defer pace.Stop()
			for i := w; i < n; i += workers {
				f(i)
				<-pace.C
			}
		})
	}
	wg.Wait()
}

// BenchmarkTwoThousandLeases tells how much of a processor 2,000 leases of 15 s take
// at both ends while nothing else happens.
func BenchmarkTwoThousandLeases(b *testing.B) {
	for _, k := range keepers {
		b.Run(k.name, func(b *testing.B) {
			lost := k.keep(b, serverProcess(b)[0], 2000, 15*time.Second)
			b.ResetTimer()
			client, server, began := ownCPU(b), childrenCPU(b), time.Now()
			for b.Loop() {
				waitFor(b, 5*time.Second)
			}
			spent := time.Since(began).Seconds()
			b.ReportMetric((ownCPU(b)-client).Seconds()*1000/spent, "client-ms/s")
			b.ReportMetric((childrenCPU(b)-server).Seconds()*1000/spent, "server-ms/s")
			b.ReportMetric(0, "ns/op")
			require.Zero(b, lost())
		})
	}
}

var pausedTTL = flag.Duration("pause.ttl", 4*time.Second, "the time to live of the leases in BenchmarkPause")

// BenchmarkPause tells how many of 1,000 leases are lost when the network holds
// everything back for three quarters of their time to live.
func BenchmarkPause(b *testing.B) {
	ttl := *pausedTTL
	for _, k := range keepers {
		b.Run(k.name, func(b *testing.B) {
			proxy := etcdtest.NewProxy(b, serverProcess(b)[0])
			lost := k.keep(b, proxy.Endpoint(), 1000, ttl)
			for b.Loop() {
				waitFor(b, ttl/2)
				proxy.Pause()
				waitFor(b, ttl*3/4)
				proxy.Heal()
				waitFor(b, ttl/4)
			}
			b.ReportMetric(float64(lost()), "lost")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// waitFor lets time pass that is part of what is measured.
func waitFor(b *testing.B, d time.Duration) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), d)
	defer cancel()
	<-ctx.Done()
}

// ownCPU returns the processor time of this process.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// childrenCPU returns the processor time of the processes that this one has started
// and that still run.
func childrenCPU(b *testing.B) (total time.Duration) {
	b.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(b, err)
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// After the name in parentheses: state, parent, …; the times are in ticks of
		// 10 ms, as everywhere on Linux.
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 13 || fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		for _, field := range fields[11:13] {
			ticks, err := strconv.Atoi(field)
			require.NoError(b, err)
			total += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return total
}
