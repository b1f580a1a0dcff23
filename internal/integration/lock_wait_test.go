package integration

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// eventless loses the events of watches, as a server does that has lost a deletion to
// a compaction (etcd-io/etcd#18089).
type eventless struct{ grpc.ServerStream }

func (s eventless) SendMsg(m any) error {
	if resp, ok := m.(*pb.WatchResponse); ok && len(resp.Events) > 0 {
		return nil
	}
	return s.ServerStream.SendMsg(m)
}

func TestWaiterGetsALockWhoseDeletionWasLost(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, eventless{ss})
		})))
	c := client(t, config(srv))
	name, ctx := prefix(t)+"lock", within(t, 2*patience)
	holder, waiter := newLock(t, c, name), newLock(t, c, name)
	require.NoError(t, holder.Lock(ctx))
	got := make(chan error, 1)
	go func() { got <- waiter.Lock(ctx) }()
	queues(t, c, name, 2)
	require.NoError(t, holder.Unlock(ctx))
	began := time.Now()
	require.NoError(t, next(t, got))
	t.Logf("got the lock %v after its release", time.Since(began).Round(time.Millisecond))
	require.NoError(t, waiter.Unlock(ctx))
}

func TestWaiterWhoseClaimIsDeletedIsTold(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"lock", within(t, 2*patience)
	holder, waiter := newLock(t, c, name), newLock(t, c, name)
	require.NoError(t, holder.Lock(ctx))
	got := make(chan error, 1)
	go func() { got <- waiter.Lock(ctx) }()
	queues(t, c, name, 2)
	require.NoError(t, second(c.DeletePrefix(ctx, name)))
	err := next(t, got)
	require.ErrorIs(t, err, etcd.ErrLockLost)
	require.ErrorIs(t, err, etcd.ErrLockKeyDeleted)
	closes(t, holder.Context().Done())
	require.ErrorIs(t, holder.Unlock(ctx), etcd.ErrLockKeyDeleted)
	require.NoError(t, waiter.Lock(ctx))
	require.NoError(t, waiter.Unlock(ctx))
}

func TestCancelledTryLockSaysSo(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"lock", within(t, patience)
	holder := newLock(t, c, name)
	require.NoError(t, holder.Lock(ctx))
	reason := errors.New("the reason")
	for i, wait := range []time.Duration{0, time.Microsecond, time.Millisecond, 10 * time.Millisecond, patience} {
		l := newLock(t, c, name, etcd.WithTryWait(wait))
		for j := range 20 {
			brief, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(time.Duration(i*j)*100*time.Microsecond, func() { cancel(reason) })
			acquired, err := l.TryLock(brief)
			require.False(t, acquired)
			if err != nil {
				require.ErrorIs(t, err, context.Canceled, "waits %v", wait)
				require.ErrorIs(t, err, reason)
				require.NotErrorIs(t, err, context.DeadlineExceeded, "waits %v", wait)
			}
			cancel(nil)
		}
	}
}

func TestLocksAreTakenBesideAStoppedMember(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	c := client(t, cluster.config())
	ctx := within(t, busyTimeout)
	require.NoError(t, c.Put(ctx, "k", nil))
	stopped := cluster.after(cluster.leader(), 1)
	stopped.pause()
	defer stopped.resume()
	var worst time.Duration
	for i := range 4 {
		began := time.Now()
		l, err := c.NewLock(fmt.Sprint("/lock/", i))
		require.NoError(t, err)
		require.NoError(t, l.Lock(ctx))
		require.NoError(t, l.Context().Err())
		require.NoError(t, l.Unlock(ctx))
		require.NoError(t, l.Lock(ctx), "it is free")
		worst = max(worst, time.Since(began))
	}
	t.Logf("at most %v for each", worst.Round(time.Millisecond))
	require.Less(t, worst, busyTimeout/2, "the time of the call was not used up")
}

func TestUnlockWhoseAnswerIsLostIsMadeElsewhere(t *testing.T) {
	t.Parallel()
	var lose atomic.Bool
	srv := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			resp, err := handler(ctx, req)
			if _, ok := req.(*pb.TxnRequest); ok && lose.CompareAndSwap(true, false) {
				return nil, status.Error(codes.Unavailable, "lost")
			}
			return resp, err
		})))
	endpoints := []string{etcdtest.NewProxy(t, srv.Endpoint()).Addr(), etcdtest.NewProxy(t, srv.Endpoint()).Addr()}
	c := client(t, etcd.DefaultConfig().WithEndpoints(endpoints...))
	ctx, name := within(t, patience), prefix(t)
	lock := newLock(t, c, name)
	for range 2 {
		require.NoError(t, lock.Lock(ctx))
		lose.Store(true)
		require.NoError(t, lock.Unlock(ctx))
		require.False(t, lose.Load())
		require.Zero(t, queue(t, c, name))
	}
}
