package integration

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// A candidate takes the lead, somebody deletes its key, and nobody is told that it leads.
func TestUntoldLeadOfADeletedCandidateEnds(t *testing.T) {
	t.Parallel()
	var lose atomic.Pointer[func()]
	srv := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			resp, err := handler(ctx, req)
			if txn, ok := req.(*pb.TxnRequest); ok && err == nil && putsLike(txn, "\x00leader") && resp.(*pb.TxnResponse).Succeeded {
				if then := lose.Swap(nil); then != nil {
					(*then)()
					return nil, status.Error(codes.Unavailable, "lost")
				}
			}
			return resp, err
		})))
	for _, m := range modes {
		c := client(t, m.set(config(srv)))
		t.Run(m.name, func(t *testing.T) {
			onEachLease(t, c, func(t *testing.T, name string, opts ...etcd.ElectionOption) {
				ctx := within(t, patience)
				e := newElection(t, c, name, opts...)
				then := func() {
					assert.NoError(t, second(c.DeletePrefix(ctx, name+"\x00lead\x00candidate\x00")))
				}
				lose.Store(&then)
				require.ErrorIs(t, e.Campaign(ctx, []byte("value")), etcd.ErrLockLost)
				require.Zero(t, e.Token())
				nothingLeft(t, c, name)
				require.NoError(t, e.Campaign(ctx, nil), "long before the lease ends")
				require.NoError(t, e.Resign(ctx))
			})
		})
	}
}

// The leader's candidate is gone too, so that what is stored doesn't tell whose leader's key it is.
func TestDeletedCandidateSparesTheLeaderOfItsSession(t *testing.T) {
	t.Parallel()
	srv := server(t)
	withdrawn := make(chan struct{}, 100)
	c := client(t, config(srv).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if req.Op == "withdraw" {
			withdrawn <- struct{}{}
		}
	}}))
	ctx, name := within(t, patience), prefix(t)+"election"
	s := newSession(t, c, etcd.WithSessionTTL(time.Hour))
	leader, e := newElection(t, c, name, etcd.WithSession(s)), newElection(t, c, name, etcd.WithSession(s))
	require.NoError(t, leader.Campaign(ctx, []byte("leader")))
	outcome := campaigning(t, ctx, c, e, "", 2)
	claims, err := leader.Queue(ctx)
	require.NoError(t, err)
	require.Len(t, claims, 2)
	require.NoError(t, second(c.DeletePrefix(ctx, name+"\x00lead\x00candidate\x00")))
	own := claims[1].Key[len(claims[1].Key)-33:] // its number and its lease
	require.NoError(t, second(c.Raw().Put(ctx, successorsOf(name)+own, "", clientv3.WithLease(clientv3.LeaseID(s.Lease())))))
	require.ErrorIs(t, next(t, outcome), etcd.ErrLockLost, "woken, it sees that it is no candidate")
	for range 4 { // it can't withdraw; what is left is looked at, the leader's key is not its own, and its own are removed
		next(t, withdrawn)
	}
	require.Equal(t, leader.Token(), leads(t, c, name, "leader").Token)
	require.NoError(t, leader.Proclaim(ctx, nil))
	require.NoError(t, leader.Resign(ctx))
	nothingLeft(t, c, name)
}
