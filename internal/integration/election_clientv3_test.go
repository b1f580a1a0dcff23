package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd/etcdtest"
)

// The tests of this file show what concurrency.Election of clientv3 does where an Election keeps
// its promise. Should one fail with a later clientv3, it has been mended there.

// theirElection returns one on a session of its own.
func theirElection(t *testing.T, endpoint, name string) (*concurrency.Election, *concurrency.Session) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	s, err := concurrency.NewSession(c, concurrency.WithTTL(60))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return concurrency.NewElection(s, name), s
}

func TestClientv3ForgetsAFailedResignation(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	ctx, name := within(t, patience), prefix(t)+"election"
	e, s := theirElection(t, srv.Endpoint(), name)
	require.NoError(t, e.Campaign(ctx, "value"))
	require.Error(t, e.Resign(f.follow(ctx, &script{answer: status.Error(codes.Unknown, "lost"), refuse: true})))
	require.NoError(t, e.Resign(ctx), "as if it had resigned")
	resp, err := s.Client().Get(ctx, name, clientv3.WithPrefix())
	require.NoError(t, err)
	require.Len(t, resp.Kvs, 1, "it leads for as long as its session lives")
}

func TestClientv3LeavesTheKeyOfAFailedCampaign(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	ctx, name := within(t, patience), prefix(t)+"election"
	e, s := theirElection(t, srv.Endpoint(), name)
	require.Error(t, e.Campaign(f.follow(ctx, &script{answer: status.Error(codes.Unknown, "lost"), times: 1}), "value"))
	require.NoError(t, e.Resign(ctx))
	resp, err := s.Client().Get(ctx, name, clientv3.WithPrefix())
	require.NoError(t, err)
	require.Len(t, resp.Kvs, 1, "nobody else is elected for as long as its session lives")
}

func TestClientv3ElectsADeadCandidate(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx, name := within(t, patience), prefix(t)+"election"
	leader, s := theirElection(t, srv.Endpoint(), name)
	dead, session := theirElection(t, srv.Endpoint(), name)
	require.NoError(t, leader.Campaign(ctx, "leader"))
	outcome := make(chan error, 1)
	go func() { outcome <- dead.Campaign(ctx, "dead") }()
	theirCandidates(t, s, name, 2)
	require.NoError(t, second(s.Client().Revoke(ctx, session.Lease())))
	theirCandidates(t, s, name, 1)
	require.NoError(t, leader.Resign(ctx))
	require.NoError(t, next(t, outcome), "it believes that it leads")
	require.ErrorIs(t, second(leader.Leader(ctx)), concurrency.ErrElectionNoLeader)
}

// theirCandidates waits until an election has n keys.
func theirCandidates(t *testing.T, s *concurrency.Session, name string, n int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := s.Client().Get(t.Context(), name, clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && resp.Count == n
	}, patience, 10*time.Millisecond)
}

func TestClientv3ObservesALeaderThatHasGone(t *testing.T) {
	t.Parallel()
	read := make(chan struct{}, 1)
	srv := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			resp, err := handler(ctx, req)
			if _, ok := req.(*pb.RangeRequest); ok {
				select {
				case read <- struct{}{}:
				default:
				}
			}
			return resp, err
		})))
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	ctx, name := within(t, patience), prefix(t)+"election"
	observer, _ := theirElection(t, proxy.Endpoint(), name)
	former, _ := theirElection(t, srv.Endpoint(), name)
	present, s := theirElection(t, srv.Endpoint(), name)
	seen := observer.Observe(ctx)
	next(t, read) // nobody leads
	proxy.Pause()
	require.NoError(t, former.Campaign(ctx, "former"))
	require.NoError(t, former.Resign(ctx))
	require.NoError(t, present.Campaign(ctx, "present"))
	now, err := s.Client().Get(ctx, name, clientv3.WithPrefix())
	require.NoError(t, err)
	require.Len(t, now.Kvs, 1)
	proxy.Heal()
	require.Equal(t, "former", string(next(t, seen).Kvs[0].Value))
}

func TestClientv3ObserveEndsAtACompaction(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	ctx, name := within(t, patience), prefix(t)+"election"
	observer, _ := theirElection(t, proxy.Endpoint(), name)
	leader, _ := theirElection(t, srv.Endpoint(), name)
	direct := client(t, config(srv))
	require.NoError(t, leader.Campaign(ctx, "first"))
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := observer.Observe(watching)
	require.Equal(t, "first", string(next(t, seen).Kvs[0].Value))
	proxy.Refuse()
	proxy.Cut()
	require.NoError(t, leader.Proclaim(ctx, "second"))
	compact(t, direct)
	proxy.Heal()
	closes(t, seen) // without a reason, and without the present value
}
