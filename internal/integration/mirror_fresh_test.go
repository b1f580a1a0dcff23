package integration

import (
	"context"
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
