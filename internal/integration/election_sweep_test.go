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
func TestDeletedCandidateSparesTheLeader(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, withdrawn := withdrawing(t, srv)
	s := newSession(t, c, etcd.WithSessionTTL(time.Hour))
	for of, leader := range map[string]*etcd.Election{
		"its session":    newElection(t, c, prefix(t)+"own", etcd.WithSession(s)),
		"another client": newElection(t, client(t, config(srv)), prefix(t)+"other"),
	} {
		ctx, name := within(t, patience), leader.Name()
		e := newElection(t, c, name, etcd.WithSession(s))
		require.NoError(t, leader.Campaign(ctx, []byte("leader")))
		outcome := campaigning(t, ctx, c, e, "", 2)
		claims, err := leader.Queue(ctx)
		require.NoError(t, err)
		require.Len(t, claims, 2)
		own := claims[1].Key[len(claims[1].Key)-33:]     // its number and its lease
		require.NoError(t, second(c.Raw().Txn(ctx).Then( // at once: the deletion wakes it
			clientv3.OpDelete(name+"\x00lead\x00candidate\x00", clientv3.WithPrefix()),
			clientv3.OpPut(successorsOf(name)+own, "", clientv3.WithLease(clientv3.LeaseID(s.Lease()))),
		).Commit()))
		require.ErrorIs(t, next(t, outcome), etcd.ErrLockLost, "woken, it sees that it is no candidate")
		for range 4 { // it can't withdraw; what is left is looked at, the leader's key is not its own, and its own are removed
			next(t, withdrawn)
		}
		require.Equal(t, leader.Token(), leads(t, c, name, "leader").Token, of)
		require.NoError(t, leader.Proclaim(ctx, nil))
		require.NoError(t, leader.Resign(ctx))
		nothingLeft(t, c, name)
	}
}

// withdrawing returns a client, and a channel that tells of each request that takes a candidate back.
func withdrawing(t testing.TB, srv *etcdtest.Server) (*etcd.Client, <-chan struct{}) {
	t.Helper()
	withdrawn := make(chan struct{}, 100)
	return client(t, config(srv).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if req.Op == "withdraw" {
			withdrawn <- struct{}{}
		}
	}})), withdrawn
}

// Another candidate of the session leads and doesn't know it yet.
func TestDeletedCandidateSparesALeadNotToldYet(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c, withdrawn := withdrawing(t, srv)
	ctx, name := within(t, patience), prefix(t)+"election"
	s := newSession(t, c, etcd.WithSessionTTL(time.Hour))
	former, e := newElection(t, c, name), newElection(t, c, name, etcd.WithSession(s))
	leader := newElection(t, c, name, etcd.WithSession(s), etcd.WithPriority(1))
	require.NoError(t, former.Campaign(ctx, nil))
	waiting, leave := context.WithCancel(ctx)
	left := campaigning(t, waiting, c, e, "", 2)
	elected := campaigning(t, ctx, c, leader, "leader", 3)
	claims, err := leader.Queue(ctx)
	require.NoError(t, err)
	require.Len(t, claims, 3)
	told := holdAnswer(o, func(txn *pb.TxnRequest) bool { return putsLike(txn, "\x00leader") })
	require.NoError(t, former.Resign(ctx))
	next(t, told.held)
	require.NoError(t, second(c.Raw().Delete(ctx, claims[2].Key)))
	leave()
	require.ErrorIs(t, next(t, left), context.Canceled)
	for range 4 {
		next(t, withdrawn)
	}
	close(told.release)
	require.NoError(t, next(t, elected))
	require.Equal(t, leader.Token(), leads(t, c, name, "leader").Token)
	require.NoError(t, leader.Resign(ctx))
	nothingLeft(t, c, name)
}

// The campaign has taken the lead by a request whose answer never comes.
func TestLeadThatIsNeverToldEndsWithItsCampaign(t *testing.T) {
	t.Parallel()
	srv, now := interferedServer(t)
	c := client(t, config(srv))
	onEachLease(t, c, func(t *testing.T, name string, opts ...etcd.ElectionOption) {
		ctx := within(t, patience)
		e, heir := newElection(t, c, name, opts...), newElection(t, c, name)
		f := interference(func(txn *pb.TxnRequest) (bool, error) {
			if !putsLike(txn, "\x00leader") {
				return false, nil
			}
			return false, status.Error(codes.Unknown, "lost")
		})
		now.Store(&f)
		require.Error(t, e.Campaign(ctx, nil))
		now.Store(nil)
		require.Zero(t, e.Token())
		require.NoError(t, heir.Campaign(ctx, []byte("heir")), "long before the lease ends")
		leads(t, c, name, "heir")
		require.NoError(t, heir.Resign(ctx))
		nothingLeft(t, c, name)
	})
}

// A request that puts a candidate's key arrives when the campaign is over and its key was removed.
func TestLateCandidateIsSweptOffItsSession(t *testing.T) {
	t.Parallel()
	srv, now := interferedServer(t)
	c, withdrawn := withdrawing(t, srv)
	ctx, name := within(t, patience), prefix(t)+"election"
	s := newSession(t, c, etcd.WithSessionTTL(time.Hour))
	e := newElection(t, c, name, etcd.WithSession(s))
	delayed := make(chan *pb.TxnRequest, 100)
	f := interference(func(txn *pb.TxnRequest) (bool, error) {
		if !putsLike(txn, "\x00candidate\x00") {
			return false, nil
		}
		delayed <- txn
		return true, status.Error(codes.Unavailable, "delayed")
	})
	now.Store(&f)
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	outcome := make(chan error, 1)
	go func() { outcome <- e.Campaign(waiting, nil) }()
	late := next(t, delayed)
	cancel()
	err := next(t, outcome)
	require.Error(t, err)
	require.True(t, etcd.MaybeApplied(err))
	now.Store(nil)
	for range 4 { // twice, for one request that is late is looked for as long as the session lives
		next(t, withdrawn)
	}
	resp, err := pb.NewKVClient(c.Raw().ActiveConnection()).Txn(ctx, late)
	require.NoError(t, err)
	require.True(t, resp.Succeeded)
	nothingLeft(t, c, name)
	require.NoError(t, s.Context().Err())
}
