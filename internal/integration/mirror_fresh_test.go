package integration

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
	"github.com/blueprint-go/etcd/mirror"
)

// heldReads counts the reads of a server, and holds those that begin while told to.
type heldReads struct {
	count atomic.Int64
	hold  atomic.Pointer[chan struct{}]
}

func (h *heldReads) option() etcdtest.Option {
	return etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if _, read := req.(*pb.RangeRequest); read {
				h.count.Add(1)
				if gate := h.hold.Load(); gate != nil {
					select {
					case <-*gate:
					case <-ctx.Done():
					}
				}
			}
			return handler(ctx, req)
		}))
}

func TestCallsThatMeetShareOneRead(t *testing.T) {
	t.Parallel()
	var reads heldReads
	c := client(t, config(server(t, reads.option())).WithTimeout(patience))
	m := mirrorOf(t, c, prefix(t))
	require.Eventually(t, func() bool { return m.Status().Connected }, patience, time.Millisecond)
	require.NoError(t, m.Fresh(within(t, patience))) // and so the one after the registration is done
	gate := make(chan struct{})
	reads.hold.Store(&gate)
	before := reads.count.Load()
	var callers sync.WaitGroup
	call := func() {
		callers.Go(func() {
			if err := m.Fresh(within(t, patience)); err != nil {
				t.Error(err)
			}
		})
	}
	call()
	require.Eventually(t, func() bool { return reads.count.Load() > before }, patience, time.Millisecond)
	for range 100 {
		call()
	}
	// One that leaves takes nobody along.
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { left <- m.Fresh(ctx) }()
	cancel()
	require.ErrorIs(t, next(t, left), context.Canceled)
	close(gate)
	callers.Wait()
	require.LessOrEqual(t, reads.count.Load()-before, int64(10), "reads for 101 calls")
}

// withoutProgress is the option for a server that reports none on request, like grpc-proxy.
func withoutProgress() etcdtest.Option {
	return tapped(nil, nil, func(s grpc.ServerStream, r *pb.WatchResponse) error {
		if !r.Created && !r.Canceled && (r.WatchId == clientv3.InvalidWatchID || len(r.Events) == 0) {
			return nil
		}
		return s.SendMsg(r)
	})
}

func TestWithoutProgressReadsProveFreshness(t *testing.T) {
	t.Parallel()
	srv := server(t, withoutProgress())
	c, other := client(t, config(srv)), client(t, config(srv))
	p := prefix(t)
	// Claims of locks count on the server.
	lock, err := other.NewLock(p + "lock")
	require.NoError(t, err)
	require.NoError(t, lock.Lock(within(t, patience)))
	require.NoError(t, other.Put(t.Context(), p+"k", []byte("v")))
	m := mirrorOf(t, c, p)
	changes := changesOf(within(t, patience), m)
	require.NoError(t, m.WaitFor(within(t, patience), putRevision(t, other, "elsewhere", "")))
	for range 3 {
		require.NoError(t, other.Put(t.Context(), "elsewhere", nil))
		require.NoError(t, m.Fresh(within(t, patience)))
		require.Equal(t, revisionOf(t, other), m.Revision())
	}
	// A deletion leaves nothing newer behind.
	require.NoError(t, second(other.Delete(t.Context(), p+"k")))
	require.NoError(t, other.Put(t.Context(), "elsewhere", nil))
	require.NoError(t, m.Fresh(within(t, patience)))
	require.Zero(t, m.Len())
	require.Equal(t, "deleted "+p+"k: v -> ", changeText(next(t, changes)))
	// What was counted before can be gone.
	require.NoError(t, other.Put(t.Context(), p+"k", []byte("w")))
	require.Equal(t, etcd.LeaseID(0), next(t, changes).New.Lease)
	for range 3 {
		require.NoError(t, other.Put(t.Context(), "elsewhere", nil))
	}
	compactAll(t, other)
	require.NoError(t, m.Fresh(within(t, patience)))
	require.Equal(t, revisionOf(t, other), m.Revision())
	require.Equal(t, map[string]string{p + "k": "w"}, held(m))
	require.NoError(t, lock.Unlock(within(t, patience)))
	require.Zero(t, m.Status().Resyncs)
}

func TestMirrorsOfAClientShareTheirReads(t *testing.T) {
	t.Parallel()
	var reads heldReads
	c := client(t, config(server(t, reads.option())).WithTimeout(patience))
	p := prefix(t)
	var all []*mirror.Mirror
	for i := range 50 {
		all = append(all, mirrorOf(t, c, fmt.Sprint(p, i, "/")))
	}
	for _, m := range all {
		require.Eventually(t, func() bool { return m.Status().Connected }, patience, time.Millisecond)
		require.NoError(t, m.Fresh(within(t, patience)))
	}
	gate := make(chan struct{})
	reads.hold.Store(&gate)
	before := reads.count.Load()
	var callers sync.WaitGroup
	for i, m := range all {
		callers.Go(func() {
			if err := m.Fresh(within(t, patience)); err != nil {
				t.Error(err)
			}
		})
		if i == 0 {
			require.Eventually(t, func() bool { return reads.count.Load() > before }, patience, time.Millisecond)
		}
	}
	close(gate)
	callers.Wait()
	require.LessOrEqual(t, reads.count.Load()-before, int64(10), "reads for 50 mirrors")
	for _, m := range all[1:] {
		m.Close()
	}
	require.NoError(t, all[0].Fresh(within(t, patience)), "the others have taken nothing along")
}

func TestCloseEndsAFreshThatWaits(t *testing.T) {
	t.Parallel()
	var reads heldReads
	c := client(t, config(server(t, reads.option())).WithTimeout(patience))
	m := mirrorOf(t, c, prefix(t))
	require.Eventually(t, func() bool { return m.Status().Connected }, patience, time.Millisecond)
	require.NoError(t, m.Fresh(within(t, patience)))
	gate := make(chan struct{})
	defer close(gate)
	reads.hold.Store(&gate)
	before := reads.count.Load()
	waited := make(chan error, 2)
	for range 2 { // one waits for the read that is under way, one for the next
		go func() { waited <- m.Fresh(within(t, patience)) }()
	}
	require.Eventually(t, func() bool { return reads.count.Load() > before }, patience, time.Millisecond)
	m.Close()
	for range 2 {
		require.ErrorIs(t, next(t, waited), etcd.ErrClosed)
	}
}

// Reads must not take for freshness what events have yet to bring.
func TestFreshWaitsForEventsOnTheirWay(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(ctx context.Context, c *etcd.Client, p string) error{
		"creation": func(ctx context.Context, c *etcd.Client, p string) error { return c.Put(ctx, p+"new", nil) },
		"update":   func(ctx context.Context, c *etcd.Client, p string) error { return c.Put(ctx, p+"k", nil) },
		"deletion": func(ctx context.Context, c *etcd.Client, p string) error { return second(c.Delete(ctx, p+"k")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate, proofs := make(chan struct{}), make(chan struct{}, 100)
			open := sync.OnceFunc(func() { close(gate) })
			srv := server(t, tapped(nil, nil, func(s grpc.ServerStream, r *pb.WatchResponse) error {
				if !r.Created && !r.Canceled {
					<-gate
				}
				return s.SendMsg(r)
			}), etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
				func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
					defer func() {
						if _, txn := req.(*pb.TxnRequest); txn {
							proofs <- struct{}{}
						}
					}()
					return handler(ctx, req)
				})))
			t.Cleanup(open) // before the server stops
			c, other := client(t, config(srv)), client(t, config(srv))
			p := prefix(t)
			require.NoError(t, other.Put(t.Context(), p+"k", []byte("v")))
			m := mirrorOf(t, c, p)
			require.NoError(t, change(t.Context(), other, p))
			fresh := make(chan error, 1)
			go func() { fresh <- m.Fresh(within(t, patience)) }()
			for range 3 { // the third begins after the second is evaluated
				select {
				case <-proofs:
				case err := <-fresh:
					require.Fail(t, "fresh too early", "%v", err)
				case <-time.After(patience):
					require.Fail(t, "no proof")
				}
			}
			require.Equal(t, map[string]string{p + "k": "v"}, held(m))
			open()
			require.NoError(t, next(t, fresh))
			equalsServer(t, c, m, p)
		})
	}
}

func TestFreshReadsAgainUntilItsDeadline(t *testing.T) {
	t.Parallel()
	o := newOutage(t, etcd.DefaultConfig(), server(t))
	p := prefix(t)
	m := mirrorOf(t, o.c, p)
	o.begin()
	require.ErrorIs(t, m.Fresh(t.Context()), etcd.ErrTimeout, "without a deadline, the read has its own")
	fresh := make(chan error, 1)
	go func() { fresh <- m.Fresh(within(t, patience)) }()
	require.Never(t, func() bool { return len(fresh) > 0 }, 500*time.Millisecond, 10*time.Millisecond)
	o.proxy.Heal()
	require.NoError(t, next(t, fresh))
}

// Nothing is written after the mirror was connected, so the server reports no progress.
func TestQuietMirrorIsConfirmedAgain(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithTimeout(2*time.Second))
	p := prefix(t)
	require.NoError(t, c.Put(t.Context(), p+"k", nil))
	m := mirrorOf(t, c, p)
	for range 3 {
		last := time.Now()
		require.Eventually(t, func() bool { return m.Status().Confirmed.After(last) }, patience, time.Millisecond)
	}
	require.Zero(t, m.Status().Resyncs)
}
