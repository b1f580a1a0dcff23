package integration

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
)

// lockRivals are a client of package concurrency and one of this package, on one server process
// that syncs its disk. Each counts its requests, and neither shares a connection with the other.
type lockRivals struct {
	theirs *clientv3.Client
	ours   *etcd.Client
	sent   [2]atomic.Int64 // by theirs, by ours
}

func newLockRivals(b *testing.B) *lockRivals {
	b.Helper()
	r := &lockRivals{}
	counting := func(n *atomic.Int64) grpc.DialOption {
		return grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			n.Add(1)
			return invoke(ctx, method, req, reply, cc, opts...)
		})
	}
	endpoints := serverProcess(b, withFsync)
	var err error
	r.theirs, err = clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), DialOptions: []grpc.DialOption{counting(&r.sent[0])}})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, r.theirs.Close()) })
	hooks := hook{after: func(req etcd.RequestInfo, res etcd.ResultInfo) {
		if req.Op != "check locks" { // every two seconds
			r.sent[1].Add(int64(res.Attempts))
		}
	}}
	r.ours = client(b, etcd.DefaultConfig().WithEndpoints(endpoints...).WithTimeout(busyTimeout).WithHooks(hooks))
	return r
}

// compare has theirs and ours take turns, and reports the medians of how long they took and of
// how many times as long ours took as theirs of its round, and the requests of each.
func (r *lockRivals) compare(b *testing.B, theirs, ours func() error) {
	var times [2][]float64
	var requests [2]int64
	for round := 0; b.Loop(); round++ {
		for i := range 2 {
			i = (i + round) % 2
			before, began := r.sent[i].Load(), time.Now()
			require.NoError(b, []func() error{theirs, ours}[i]())
			times[i] = append(times[i], float64(time.Since(began).Microseconds()))
			requests[i] += r.sent[i].Load() - before
		}
	}
	ratios := make([]float64, len(times[0]))
	for round := range ratios {
		ratios[round] = times[1][round] / times[0][round]
	}
	b.ReportMetric(0, "ns/op") // of both together
	for i, name := range []string{"mutex", "lock"} {
		b.ReportMetric(float64(requests[i])/float64(len(times[i])), name+"-requests")
		b.ReportMetric(median(slices.Clone(times[i])), name+"-µs")
	}
	b.ReportMetric(median(ratios), "times")
}

// BenchmarkLockBesideMutex measures a Lock beside a concurrency.Mutex, in turns: one that nobody
// else wants, an attempt at one that is taken, and its way through fifty that wait for it.
func BenchmarkLockBesideMutex(b *testing.B) {
	b.Run("uncontended", func(b *testing.B) {
		r, ctx := newLockRivals(b), b.Context()
		m, _ := mutex(b, r.theirs, "/theirs")
		l := newLock(b, r.ours, "/ours")
		r.compare(b, func() error {
			if err := m.Lock(ctx); err != nil {
				return err
			}
			return m.Unlock(ctx)
		}, func() error {
			if err := l.Lock(ctx); err != nil {
				return err
			}
			return l.Unlock(ctx)
		})
	})
	b.Run("taken", func(b *testing.B) {
		r, ctx := newLockRivals(b), b.Context()
		require.NoError(b, first(mutex(b, r.theirs, "/theirs")).Lock(ctx))
		require.NoError(b, newLock(b, r.ours, "/ours").Lock(ctx))
		m, _ := mutex(b, r.theirs, "/theirs")
		l := newLock(b, r.ours, "/ours")
		r.compare(b, func() error {
			require.ErrorIs(b, m.TryLock(ctx), concurrency.ErrLocked)
			return nil
		}, func() error {
			acquired, err := l.TryLock(ctx)
			require.False(b, acquired)
			return err
		})
	})
	b.Run("fifty-waiters", func(b *testing.B) { handOver(b, 50) })
}

// handOver measures how long n waiters take until each has had the lock.
func handOver(b *testing.B, n int) {
	r, ctx := newLockRivals(b), b.Context()
	var theirs, ours []func(held func()) error
	for range n + 1 {
		m, _ := mutex(b, r.theirs, "/theirs")
		theirs = append(theirs, func(held func()) error {
			if err := m.Lock(ctx); err != nil {
				return err
			}
			held()
			return m.Unlock(ctx)
		})
		l := newLock(b, r.ours, "/ours")
		ours = append(ours, func(held func()) error {
			if err := l.Lock(ctx); err != nil {
				return err
			}
			held()
			return l.Unlock(ctx)
		})
	}
	var times [2][]float64
	for round := 0; b.Loop(); round++ {
		for i := range 2 {
			i = (i + round) % 2
			prefix := []string{"/theirs/", "/ours\x00"}[i]
			took, requests := through(b, r, []([]func(func()) error){theirs, ours}[i], prefix, &r.sent[i])
			times[i] = append(times[i], float64(took.Microseconds())/float64(n))
			b.ReportMetric(float64(requests)/float64(n), []string{"mutex", "lock"}[i]+"-requests/hand-over")
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(times[0]), "mutex-µs/hand-over")
	b.ReportMetric(median(times[1]), "lock-µs/hand-over")
}

// through has the first of them take the lock, and the others wait for it, and returns how long
// it takes from its release until the last has had it, and the requests for that.
func through(b *testing.B, r *lockRivals, all []func(held func()) error, prefix string, sent *atomic.Int64) (time.Duration, int64) {
	var waiting sync.WaitGroup
	release, taken := make(chan struct{}), make(chan struct{})
	run := func(f func(func()) error, held func()) {
		waiting.Go(func() {
			if err := f(held); err != nil {
				b.Error(err)
			}
		})
	}
	run(all[0], func() {
		close(taken)
		<-release
	})
	<-taken
	for _, f := range all[1:] {
		run(f, func() {})
	}
	keysUnder(b, r.theirs, prefix, int64(len(all)))
	// Those that have just come may not watch yet, of theirs as of ours.
	before, began := sent.Load(), time.Now()
	close(release)
	waiting.Wait()
	return time.Since(began), sent.Load() - before
}
