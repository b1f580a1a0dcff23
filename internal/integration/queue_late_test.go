package integration

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
	jobqueue "github.com/blueprint-go/etcd/queue"
)

// Whoever knew of the job before another call claimed it finds that call's claim, which may be over
// by the time the answer comes.
func TestLateClaimTakesOverNoOther(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	q := openQueue[int](t, client(t, config(srv)))
	ctx := within(t, patience)
	require.ErrorIs(t, second(q.TryPop(ctx)), jobqueue.ErrEmpty) // the lease is there
	push(t, q, 1)
	looks := holdAnswer(o, func(txn *pb.TxnRequest) bool { return len(txn.Compare) == 0 })
	late := poppedLate(ctx, t, q)
	next(t, looks.held)
	brief, cancel := context.WithCancel(ctx)
	defer cancel()
	j, err := q.TryPop(brief)
	require.NoError(t, err)
	claims := holdAnswer(o, func(txn *pb.TxnRequest) bool { return len(txn.Compare) > 0 })
	close(looks.release)
	next(t, claims.held)
	cancel()
	holds(t, q, jobqueue.Counts{Ready: 1})
	require.ErrorIs(t, j.Ack(ctx), jobqueue.ErrClaimLost)
	close(claims.release)
	j = next(t, late)
	require.Equal(t, 2, j.Attempt())
	require.NoError(t, j.Ack(ctx))
}

// A job that waits again is noticed by a consumer whose claim was under way meanwhile, though the
// answer to that tells of a later revision.
func TestReturnedJobIsSeenBehindALateClaim(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	q, other := openQueue[int](t, client(t, config(srv))), openQueue[int](t, client(t, config(srv)))
	ctx := within(t, patience)
	require.ErrorIs(t, second(other.TryPop(ctx)), jobqueue.ErrEmpty)
	watches := watchesOf(o, q.Name())
	late := poppedLate(ctx, t, q)
	next(t, watches)
	claim := holdRequest(o, func(txn *pb.TxnRequest) bool { return len(txn.Compare) > 0 })
	push(t, q, 1)
	next(t, claim.held)
	j, err := other.TryPop(ctx)
	require.NoError(t, err)
	require.NoError(t, j.Nack(ctx, 0))
	looks := looksAt(o)
	close(claim.release)
	j = next(t, late)
	require.Zero(t, looks.Load(), "the watch told of it")
	require.Equal(t, 2, j.Attempt())
	require.NoError(t, j.Ack(ctx))
}

// A job whose claim was certainly not made is there for another call that waits.
func TestRefusedClaimLeavesTheJobToWaiters(t *testing.T) {
	t.Parallel()
	o := &observer{}
	srv, faults := faultyServer(t, etcdtest.WithGRPCServerOptions(
		grpc.ChainUnaryInterceptor(o.unary), grpc.ChainStreamInterceptor(o.stream)))
	q := openQueue[int](t, client(t, config(srv)))
	ctx := within(t, patience)
	require.ErrorIs(t, second(q.TryPop(ctx)), jobqueue.ErrEmpty) // the lease is there
	push(t, q, 1)
	asked, refuse := make(chan struct{}, 1), make(chan struct{})
	refused := &script{answer: rpctypes.ErrGRPCPermissionDenied, refuse: true, writesOnly: true}
	refused.arrived = func(context.Context) { asked <- struct{}{}; <-refuse }
	failed := make(chan error, 1)
	go func() { failed <- second(q.TryPop(faults.follow(ctx, refused))) }()
	next(t, asked)
	watches := watchesOf(o, q.Name())
	waiter := poppedLate(ctx, t, q)
	next(t, watches)
	looks := looksAt(o)
	close(refuse)
	require.ErrorIs(t, next(t, failed), etcd.ErrPermissionDenied)
	j := next(t, waiter)
	require.Zero(t, looks.Load())
	require.NoError(t, j.Ack(ctx))
}

// poppedLate pops a job in the background.
func poppedLate(ctx context.Context, t testing.TB, q *jobqueue.Queue[int]) <-chan *jobqueue.Job[int] {
	out := make(chan *jobqueue.Job[int], 1)
	go func() {
		j, err := q.Pop(ctx)
		assert.NoError(t, err)
		out <- j
	}()
	return out
}

// watchesOf tells when a consumer of a queue watches at the head of the line.
func watchesOf(o *observer, queue string) <-chan struct{} {
	out := make(chan struct{}, 1)
	o.around(func(req any) {
		w, ok := req.(*pb.WatchRequest)
		if ok && strings.HasPrefix(string(w.GetCreateRequest().GetKey()), queue+"\x01wait/") {
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}, nil)
	return out
}

// looksAt counts the looks at a queue that are not part of a claim.
func looksAt(o *observer) *atomic.Int64 {
	n := &atomic.Int64{}
	o.around(func(req any) {
		if txn, ok := req.(*pb.TxnRequest); ok && len(txn.Compare) == 0 {
			n.Add(1)
		}
	}, nil)
	return n
}

// stopped is what a server holds back until release is closed.
type stopped struct {
	held    chan struct{}
	release chan struct{}
}

// holdRequest has a server hold back the next transaction for which which is true, and holdAnswer
// the answer to it.
func holdRequest(o *observer, which func(*pb.TxnRequest) bool) stopped {
	h, hold := holdingFirst(which)
	o.around(hold, nil)
	return h
}

func holdAnswer(o *observer, which func(*pb.TxnRequest) bool) stopped {
	h, hold := holdingFirst(which)
	o.around(nil, hold)
	return h
}

func holdingFirst(which func(*pb.TxnRequest) bool) (stopped, func(req any)) {
	h := stopped{make(chan struct{}, 1), make(chan struct{})}
	var once sync.Once
	return h, func(req any) {
		if txn, ok := req.(*pb.TxnRequest); ok && which(txn) {
			first := false
			once.Do(func() { first = true })
			if first {
				h.held <- struct{}{}
				<-h.release
			}
		}
	}
}
