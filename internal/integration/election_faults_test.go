package integration

import (
	"context"
	"strings"
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

// onEachLease runs a test for elections with a lease of their own, and on a session; the lease
// lasts a minute.
func onEachLease(t *testing.T, c *etcd.Client, test func(t *testing.T, name string, opts ...etcd.ElectionOption)) {
	t.Helper()
	t.Run("own lease", func(t *testing.T) { test(t, prefix(t)+"election", etcd.WithLockTTL(time.Minute)) })
	t.Run("session", func(t *testing.T) {
		s := newSession(t, c, etcd.WithSessionTTL(time.Minute))
		test(t, prefix(t)+"election", etcd.WithSession(s))
		require.NoError(t, s.Context().Err())
	})
}

func TestResignIsRetriableUntilTheKeyIsGone(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c := client(t, config(srv))
	onEachLease(t, c, func(t *testing.T, name string, opts ...etcd.ElectionOption) {
		ctx := within(t, patience)
		for _, refuse := range []bool{true, false} {
			e := newElection(t, c, name, opts...)
			require.NoError(t, e.Campaign(ctx, nil))
			held := e.Context()
			brief, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			lost := &script{answer: status.Error(codes.Unavailable, "lost"), refuse: refuse, writesOnly: true}
			require.Error(t, e.Resign(f.follow(brief, lost)))
			cancel()
			require.ErrorIs(t, context.Cause(held), context.Canceled, "it leads no more")
			require.Zero(t, e.Token())
			require.ErrorIs(t, e.Campaign(ctx, nil), etcd.ErrLeading, "its key may be there")
			require.NoError(t, e.Resign(ctx))
			require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant)
			require.ErrorIs(t, e.Resign(ctx), etcd.ErrNotHeld)
			nothingLeft(t, c, name)
			require.NoError(t, e.Campaign(ctx, nil), "again")
			require.NoError(t, e.Resign(f.follow(ctx, &script{answer: status.Error(codes.Unavailable, "lost"), refuse: refuse, times: 1})), "asked again")
		}
	})
}

func TestForgottenResignationFreesTheElection(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c := client(t, config(srv))
	onEachLease(t, c, func(t *testing.T, name string, opts ...etcd.ElectionOption) {
		ctx := within(t, patience)
		e, heir := newElection(t, c, name, opts...), newElection(t, c, name)
		require.NoError(t, e.Campaign(ctx, nil))
		brief, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		require.Error(t, e.Resign(f.follow(brief, &script{answer: status.Error(codes.Unavailable, "lost"), refuse: true})))
		cancel()
		require.NoError(t, heir.Campaign(ctx, nil), "long before the lease ends")
	})
}

func TestFailedCampaignLeavesNothing(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c := client(t, config(srv))
	onEachLease(t, c, func(t *testing.T, name string, opts ...etcd.ElectionOption) {
		ctx := within(t, patience)
		e, heir := newElection(t, c, name, opts...), newElection(t, c, name)
		require.NoError(t, e.Campaign(ctx, nil)) // so that a lease is there
		require.NoError(t, e.Resign(ctx))
		for _, refuse := range []bool{true, false} {
			for _, code := range []codes.Code{codes.Unknown, codes.Unavailable, codes.PermissionDenied} {
				brief, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
				err := e.Campaign(f.follow(brief, &script{answer: status.Error(code, "lost"), refuse: refuse, writesOnly: true}), nil)
				cancel()
				require.Error(t, err)
				require.Zero(t, e.Token())
				require.NoError(t, heir.Campaign(ctx, nil), "long before the lease ends")
				require.NoError(t, heir.Resign(ctx))
				nothingLeft(t, c, name)
			}
		}
	})
}

func TestEndedWaitOfACandidateLeavesNothing(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	c, inQueue := queueingClient(t, config(srv))
	onEachLease(t, c, func(t *testing.T, name string, opts ...etcd.ElectionOption) {
		ctx := within(t, patience)
		leader, e := newElection(t, direct, name), newElection(t, c, name, opts...)
		require.NoError(t, leader.Campaign(ctx, nil))
		waiting, cancel := context.WithCancel(ctx)
		outcome := campaigning(t, waiting, direct, e, "", 2)
		next(t, inQueue)
		cancel()
		err := next(t, outcome)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, etcd.ErrLocked)
		require.NotContains(t, err.Error(), "lock")
		stand(t, c, name, 1)
		require.NoError(t, leader.Resign(ctx))
		nothingLeft(t, c, name)
	})
}

func TestLostAnswersOfACampaignAreFound(t *testing.T) {
	t.Parallel()
	var lose atomic.Pointer[string]
	srv := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			resp, err := handler(ctx, req)
			if txn, ok := req.(*pb.TxnRequest); ok && err == nil {
				if what := lose.Load(); what != nil && putsLike(txn, *what) && lose.CompareAndSwap(what, nil) {
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
				for _, what := range []string{"\x00candidate\x00", "\x00leader"} {
					e := newElection(t, c, name, opts...)
					lose.Store(&what)
					require.NoError(t, e.Campaign(ctx, []byte("value")))
					require.Nil(t, lose.Load(), "an answer was lost")
					require.Equal(t, e.Token(), leads(t, c, name, "value").Token)
					require.NoError(t, e.Resign(ctx))
					nothingLeft(t, c, name)
				}
			})
		})
	}
}

// A copy of the request that takes the lead comes late, when the campaign is over.
func TestLateRequestsOfACampaignElectNobody(t *testing.T) {
	t.Parallel()
	copies := make(chan *pb.TxnRequest, 10)
	srv := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if txn, ok := req.(*pb.TxnRequest); ok && putsLike(txn, "\x00leader") {
				copies <- txn
			}
			return handler(ctx, req)
		})))
	c := client(t, config(srv))
	ctx, name := within(t, patience), prefix(t)+"election"
	s := newSession(t, c)
	e := newElection(t, c, name, etcd.WithSession(s))
	require.NoError(t, e.Campaign(ctx, nil))
	require.Len(t, copies, 1)
	late, kv := next(t, copies), pb.NewKVClient(c.Raw().ActiveConnection())
	held := e.Context()
	require.NoError(t, second(c.Raw().Delete(ctx, leaderKey(name))))
	resp, err := kv.Txn(ctx, late)
	require.NoError(t, err)
	require.False(t, resp.Succeeded, "while the candidate's key is there")
	closes(t, held.Done())
	require.ErrorIs(t, e.Resign(ctx), etcd.ErrLockLost)
	nothingLeft(t, c, name)
	resp, err = kv.Txn(ctx, late)
	require.NoError(t, err)
	require.False(t, resp.Succeeded)
	nothingLeft(t, c, name)
}

// The request that takes the lead is answered by none, repeated in vain, and carried out late.
func TestLateTakeoverIsFoundByTheNextLook(t *testing.T) {
	t.Parallel()
	srv, now := interferedServer(t)
	c := client(t, config(srv))
	kv := pb.NewKVClient(c.Raw().ActiveConnection())
	onEachLease(t, c, func(t *testing.T, name string, opts ...etcd.ElectionOption) {
		ctx := within(t, patience)
		lease, err := c.Grant(ctx, time.Hour)
		require.NoError(t, err)
		for _, deleted := range []bool{false, true} {
			var stage atomic.Int64
			var late *pb.TxnRequest
			f := interference(func(txn *pb.TxnRequest) (bool, error) {
				takes := putsLike(txn, "\x00leader")
				switch {
				case takes && stage.CompareAndSwap(0, 1):
					late = txn
					return true, status.Error(codes.Unavailable, "delayed")
				case takes && stage.CompareAndSwap(1, 2): // another leads
					assert.NoError(t, second(c.Raw().Put(ctx, leaderKey(name), "other", clientv3.WithLease(clientv3.LeaseID(lease)))))
				case !takes && stage.CompareAndSwap(2, 3): // the next look
					assert.NoError(t, second(c.Raw().Delete(ctx, leaderKey(name))))
					resp, err := kv.Txn(ctx, late)
					assert.True(t, err == nil && resp.Succeeded)
					if deleted {
						assert.NoError(t, second(c.Raw().Delete(ctx, leaderKey(name))))
					}
				}
				return false, nil
			})
			now.Store(&f)
			e := newElection(t, c, name, opts...)
			err := e.Campaign(ctx, []byte("value"))
			now.Store(nil)
			require.EqualValues(t, 3, stage.Load())
			if deleted {
				require.ErrorIs(t, err, etcd.ErrLockLost)
			} else {
				require.NoError(t, err)
				require.Equal(t, e.Token(), leads(t, c, name, "value").Token)
				require.NoError(t, c.Put(e.Guard(ctx), name+"-data", nil))
				require.NoError(t, e.Resign(ctx))
			}
			nothingLeft(t, c, name)
		}
	})
}

// putsLike reports whether a transaction, or one in it, puts a key with that in it.
func putsLike(txn *pb.TxnRequest, part string) bool {
	for _, op := range append(append([]*pb.RequestOp{}, txn.Success...), txn.Failure...) {
		if put := op.GetRequestPut(); put != nil && strings.Contains(string(put.Key), part) {
			return true
		}
	}
	return false
}

func TestDeadCandidateIsNeverElected(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	for what, opt := range map[string]etcd.ElectionOption{
		"own lease": etcd.WithLockTTL(time.Minute),
		"session":   etcd.WithSession(newSession(t, c, etcd.WithSessionTTL(time.Minute))),
	} {
		name, ctx := prefix(t)+what, within(t, patience)
		leader, e := newElection(t, c, name), newElection(t, c, name, opt)
		require.NoError(t, leader.Campaign(ctx, nil))
		outcome := campaigning(t, ctx, c, e, "", 2)
		resp, err := c.Raw().Get(ctx, name+"\x00lead\x00candidate\x00", clientv3.WithLastCreate()...)
		require.NoError(t, err)
		require.NoError(t, second(c.Raw().Revoke(ctx, clientv3.LeaseID(leaseIn(t, string(resp.Kvs[0].Key))))))
		require.NoError(t, leader.Resign(ctx))
		require.ErrorIs(t, next(t, outcome), etcd.ErrLockLost)
		require.Zero(t, e.Token())
		require.ErrorIs(t, context.Cause(e.Context()), etcd.ErrNotHeld)
		require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant)
	}
}

func TestSecondLeaderNeverAppearsWhenAPredecessorLeaves(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	looks := make(chan struct{}, 1000)
	c := client(t, config(srv).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if req.Op == "campaign" {
			looks <- struct{}{}
		}
	}}))
	ctx, name := within(t, patience), prefix(t)+"election"
	leader, before, e := newElection(t, direct, name), newElection(t, direct, name), newElection(t, c, name)
	require.NoError(t, leader.Campaign(ctx, nil))
	leaving, leave := context.WithCancel(ctx)
	left := campaigning(t, leaving, direct, before, "before", 2)
	outcome := campaigning(t, ctx, direct, e, "last", 3)
	next(t, looks) // it has its place
	leave()
	require.ErrorIs(t, next(t, left), context.Canceled)
	next(t, looks) // it looks again
	require.Empty(t, outcome)
	require.Equal(t, leader.Token(), leads(t, direct, name, "").Token)
	require.NoError(t, leader.Resign(ctx))
	require.NoError(t, next(t, outcome))
}

func TestLeadershipIsLostBeforeAnotherCanLead(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv).WithEncryption(testKey))
	for i := range 6 {
		t.Run(string(rune('a'+i)), func(t *testing.T) {
			t.Parallel()
			proxy := etcdtest.NewProxy(t, srv.Endpoint())
			c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()).WithEncryption(testKey))
			ctx, name := within(t, patience), prefix(t)+"election"
			e := brokenElection(t, c, proxy, name, etcd.WithLockTTL(2*time.Second))
			heir := newElection(t, direct, name)
			require.NoError(t, e.Campaign(ctx, []byte("former")))
			held, guarded, token := e.Context(), e.Guard(ctx), e.Token()
			told := make(chan time.Time, 1)
			context.AfterFunc(held, func() { told <- time.Now() })
			outcome := campaigning(t, ctx, direct, heir, "heir", 2)
			elected := make(chan time.Time, 1)
			go func() {
				assert.NoError(t, <-outcome)
				elected <- time.Now()
			}()
			time.AfterFunc(time.Duration(i)*50*time.Millisecond, func() { proxy.Blackhole() }) // between two renewals
			require.True(t, next(t, told).Before(next(t, elected)), "two lead at once")
			for _, reason := range []error{etcd.ErrLockLost, etcd.ErrLeaseLost} {
				require.ErrorIs(t, context.Cause(held), reason)
			}
			require.Greater(t, heir.Token(), token)

			// It goes on as if it were never told.
			proxy.Heal()
			late := context.WithoutCancel(guarded)
			require.ErrorIs(t, c.Put(late, name+"/data", nil), etcd.ErrLockLost)
			require.ErrorIs(t, e.Proclaim(ctx, []byte("stale")), etcd.ErrLockLost)
			require.ErrorIs(t, second(direct.Get(ctx, name+"/data")), etcd.ErrKeyNotFound)
			leads(t, direct, name, "heir")
			require.ErrorIs(t, e.Campaign(ctx, nil), etcd.ErrLockLost, "it has not resigned")
			require.ErrorIs(t, e.Resign(ctx), etcd.ErrLockLost)
			require.ErrorIs(t, e.Resign(ctx), etcd.ErrNotHeld)
			require.NoError(t, heir.Resign(ctx))
			require.NoError(t, e.Campaign(ctx, nil), "with a new lease")
			require.NoError(t, e.Resign(ctx))
		})
	}
}

// brokenElection is newElection for a client that is cut off now and then.
func brokenElection(t testing.TB, c *etcd.Client, proxy *etcdtest.Proxy, name string, opts ...etcd.ElectionOption) *etcd.Election {
	t.Helper()
	e, err := c.NewElection(name, opts...)
	require.NoError(t, err)
	t.Cleanup(func() {
		proxy.Heal()
		require.NoError(t, e.Close())
	})
	return e
}

// The server knows of the loss, and the leader doesn't: its own checks are held up.
func TestStaleLeadersWritesAreRefused(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		g := observeGuards(t, o)
		name, ctx := prefix(t)+"election", within(t, patience)
		e := newElection(t, c, name, etcd.WithLockTTL(time.Minute))
		require.NoError(t, e.Campaign(ctx, []byte("value")))
		guarded := e.Guard(ctx)
		require.Same(t, e, etcd.ElectionOf(guarded))
		require.Nil(t, etcd.LockOf(guarded))
		g.watchFor(storedLeaderKey(t, c, name), e.Token())
		require.NoError(t, c.Put(guarded, name+"/data", []byte("1")))
		written, unbound := g.found()
		require.Positive(t, written)
		require.Empty(t, unbound)

		require.NoError(t, second(c.Delete(ctx, leaderKey(name))))
		for _, err := range []error{c.Put(guarded, name+"/data", []byte("2")), e.Proclaim(ctx, []byte("2"))} {
			require.ErrorIs(t, err, etcd.ErrLockLost)
			require.False(t, etcd.MaybeApplied(err))
		}
		value, err := c.Get(ctx, name+"/data")
		require.NoError(t, err)
		require.Equal(t, "1", string(value))
		require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant)
		closes(t, guarded.Done())
		require.ErrorIs(t, e.Resign(ctx), etcd.ErrLockLost)
	})
}

func TestLeaderLearnsThatItsKeyIsGone(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	onEachLease(t, c, func(t *testing.T, name string, opts ...etcd.ElectionOption) {
		ctx := within(t, patience)
		for _, tc := range []struct {
			reason error
			spoil  func() error
		}{
			{etcd.ErrLockKeyDeleted, func() error { return second(c.Raw().Delete(ctx, leaderKey(name))) }},
			{etcd.ErrLockKeyDeleted, func() error { return second(c.DeletePrefix(ctx, name)) }},
			{etcd.ErrLockKeyReplaced, func() error { return second(c.Raw().Put(ctx, leaderKey(name), "")) }},
		} {
			e := newElection(t, c, name, opts...)
			require.NoError(t, e.Campaign(ctx, nil))
			require.NoError(t, e.Proclaim(ctx, []byte("own")), "by itself it may replace it")
			held := e.Context()
			require.NoError(t, tc.spoil())
			closes(t, held.Done())
			require.ErrorIs(t, context.Cause(held), etcd.ErrLockLost)
			require.ErrorIs(t, context.Cause(held), tc.reason)
			heir := newElection(t, c, name)
			require.NoError(t, second(c.Raw().Delete(ctx, leaderKey(name))))
			require.NoError(t, heir.Campaign(ctx, nil), "the former leader's candidate is not in the way")
			require.ErrorIs(t, e.Resign(ctx), etcd.ErrLockLost)
			require.Equal(t, heir.Token(), leads(t, c, name, "").Token)
			require.NoError(t, heir.Resign(ctx))
			nothingLeft(t, c, name)
		}
	})
}

func TestCandidateWhoseKeyIsDeletedIsTold(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"election", within(t, patience)
	leader, e := newElection(t, c, name), newElection(t, c, name)
	require.NoError(t, leader.Campaign(ctx, nil))
	outcome := campaigning(t, ctx, c, e, "", 2)
	require.NoError(t, second(c.DeletePrefix(ctx, name)))
	err := next(t, outcome)
	require.ErrorIs(t, err, etcd.ErrLockLost)
	require.ErrorIs(t, err, etcd.ErrLockKeyDeleted)
	require.NoError(t, e.Campaign(ctx, nil))
	closes(t, leader.Context().Done())
}

func TestPanicOfAHookLeavesNoCandidateBehind(t *testing.T) {
	t.Parallel()
	srv := server(t)
	hook := &startled{}
	c, other := client(t, config(srv).WithHooks(hook)), client(t, config(srv))
	onEachLease(t, c, func(t *testing.T, name string, opts ...etcd.ElectionOption) {
		ctx := within(t, patience)
		for _, op := range []string{"campaign", "resign"} {
			for nth := int64(1); nth <= 4; nth++ { // before and after each request
				e := newElection(t, c, name, opts...)
				var n atomic.Int64
				when := func(req etcd.RequestInfo, _ bool) bool { return req.Op == op && n.Add(1) == nth }
				hook.when.Store(&when)
				panicked := survive(func() {
					if e.Campaign(ctx, nil) == nil {
						_ = e.Resign(ctx)
					}
				})
				hook.when.Store(nil)
				require.Equal(t, op == "campaign" || nth <= 2, panicked != nil, "%s %d", op, nth)
				heir := newElection(t, other, name)
				require.NoError(t, heir.Campaign(ctx, nil), "%s %d", op, nth)
				require.NoError(t, heir.Resign(ctx))
				require.NoError(t, e.Close())
			}
		}
		nothingLeft(t, c, name)
	})
}
