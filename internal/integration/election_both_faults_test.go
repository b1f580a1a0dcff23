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

// interference decides for a transaction whether it is carried out, and what its answer is; nil
// for the server's own.
type interference func(txn *pb.TxnRequest) (refuse bool, answer error)

// interferedServer is a server whose transactions meet what is stored in the pointer.
func interferedServer(t testing.TB) (*etcdtest.Server, *atomic.Pointer[interference]) {
	t.Helper()
	var now atomic.Pointer[interference]
	return server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			txn, ok := req.(*pb.TxnRequest)
			f := now.Load()
			if !ok || f == nil {
				return handler(ctx, req)
			}
			refuse, answer := (*f)(txn)
			if refuse {
				return nil, answer
			}
			resp, err := handler(ctx, req)
			if err == nil && answer != nil {
				return nil, answer
			}
			return resp, err
		}))), &now
}

// enters reports whether a transaction puts the other key of a candidate.
func enters(txn *pb.TxnRequest, name string) bool {
	return putsLike(txn, name+"/") && !putsLike(txn, "\x00lead\x00") && len(txn.Success) > 1 // clientv3's is alone
}

// stepsBack reports whether a transaction deletes a key of the other queue, but for one, and
// changes nothing else.
func stepsBack(txn *pb.TxnRequest, name, but string) bool {
	key := string(txn.Success[0].GetRequestDeleteRange().GetKey())
	return len(txn.Success) == 1 && strings.Contains(key, name+"/") && key != but
}

// besideKey returns the oldest of the keys of an election in the queue of package concurrency.
func besideKey(t testing.TB, c *etcd.Client, name string) string {
	t.Helper()
	resp, err := c.Raw().Get(t.Context(), name+"/", clientv3.WithFirstCreate()...)
	require.NoError(t, err)
	require.Len(t, resp.Kvs, 1)
	return string(resp.Kvs[0].Key)
}

func TestLeadershipEndsWithEitherKey(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	for _, which := range []string{"own", "theirs"} {
		for _, reason := range []error{etcd.ErrLockKeyDeleted, etcd.ErrLockKeyReplaced} {
			t.Run(which+" "+reason.Error(), func(t *testing.T) {
				t.Parallel()
				ctx, name := within(t, patience), prefix(t)+"election"
				e := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithLockTTL(time.Minute))
				require.NoError(t, e.Campaign(ctx, []byte("first")))
				require.NoError(t, e.Proclaim(ctx, []byte("own")), "by itself it may replace it")
				held, guarded, key := e.Context(), e.Guard(ctx), leaderKey(name)
				require.NoError(t, c.Put(guarded, name+"-data", []byte("before")))
				require.Same(t, e, etcd.ElectionOf(guarded))
				if which == "theirs" {
					key = besideKey(t, c, name)
				}
				require.NoError(t, second(c.Raw().Delete(ctx, key)))
				if reason == etcd.ErrLockKeyReplaced {
					require.NoError(t, second(c.Raw().Put(ctx, key, "replaced")))
				}
				for _, err := range []error{c.Put(guarded, name+"-data", []byte("after")), e.Proclaim(ctx, []byte("after"))} {
					require.ErrorIs(t, err, etcd.ErrLockLost)
					require.False(t, etcd.MaybeApplied(err))
				}
				closes(t, held.Done())
				require.ErrorIs(t, context.Cause(held), reason)
				require.NoError(t, second(c.Raw().Delete(ctx, key)))
				leading(t, c.Raw(), name, "long before the lease ends")()
				require.ErrorIs(t, e.Resign(guarded), etcd.ErrLockLost)
				require.NoError(t, e.Campaign(ctx, nil), "again")
				require.NoError(t, e.Resign(e.Guard(ctx)), "by its own guard")
				nothingBeside(t, c, name)
			})
		}
	}
}

// What nobody writes with, and nobody guards, is looked at too.
func TestLossOfEitherKeyIsNoticed(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, name := within(t, patience), prefix(t)+"election"
	e := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithLockTTL(time.Minute))
	for _, key := range []func() string{func() string { return leaderKey(name) }, func() string { return besideKey(t, c, name) }} {
		require.NoError(t, e.Campaign(ctx, nil))
		held := e.Context()
		require.NoError(t, second(c.Raw().Delete(ctx, key())))
		closes(t, held.Done())
		require.ErrorIs(t, context.Cause(held), etcd.ErrLockKeyDeleted)
		require.ErrorIs(t, e.Resign(ctx), etcd.ErrLockLost)
		nothingBeside(t, c, name)
	}
}

func TestEndedWaitBesideClientv3LeavesNothing(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, name := within(t, patience), prefix(t)+"election"
	resign := leading(t, c.Raw(), name, "theirs")
	for _, tc := range []struct {
		how  string
		end  func(e *etcd.Election, cancel func())
		want []error
	}{
		{"context", func(_ *etcd.Election, cancel func()) { cancel() }, []error{context.Canceled, etcd.ErrLocked}},
		{"closed", func(e *etcd.Election, _ func()) { require.NoError(t, e.Close()) }, []error{etcd.ErrClosed}},
	} {
		e := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithLockTTL(time.Minute))
		waiting, cancel := context.WithCancel(ctx)
		outcome := campaigning(t, waiting, c, e, "", 1)
		keysUnder(t, c.Raw(), name+"/", 2)
		pace, began := keepPace(t), time.Now()
		tc.end(e, cancel)
		err := next(t, outcome)
		for _, want := range tc.want {
			require.ErrorIs(t, err, want, tc.how)
		}
		keysUnder(t, c.Raw(), name+"/", 1)
		require.Less(t, time.Since(began), pace.allow(7*time.Second), "not with the lease alone, which is kept for ten seconds")
		nothingLeft(t, c, name)
		cancel()
	}
	resign()
	nothingBeside(t, c, name)
}

// Who can't give up its place, which is in the way of others, stands no more.
func TestFailedStepBackBesideClientv3EndsTheCampaign(t *testing.T) {
	t.Parallel()
	srv, now := interferedServer(t)
	c := client(t, config(srv))
	ctx, name := within(t, patience), prefix(t)+"election"
	resign := leading(t, c.Raw(), name, "theirs")
	theirs := besideKey(t, c, name)
	low, high := newElection(t, c, name, etcd.WithBothKeys()), newElection(t, c, name, etcd.WithBothKeys(), etcd.WithPriority(1))
	first := campaigning(t, ctx, c, low, "low", 1)
	keysUnder(t, c.Raw(), name+"/", 2)
	behind := youngestBeside(t, c.Raw(), name)
	then := campaigning(t, ctx, c, high, "high", 2)
	entersBehind(t, c.Raw(), name, behind)
	f := interference(func(txn *pb.TxnRequest) (bool, error) {
		if len(txn.Success) == 0 || !stepsBack(txn, name, theirs) {
			return false, nil
		}
		return true, status.Error(codes.PermissionDenied, "refused")
	})
	now.Store(&f)
	resign()
	require.ErrorIs(t, next(t, first), etcd.ErrPermissionDenied)
	require.NoError(t, next(t, then))
	leads(t, c, name, "high")
	now.Store(nil)
	require.NoError(t, high.Resign(ctx))
	nothingBeside(t, c, name)
}

func TestPlaceBesideClientv3ThatIsGoneElectsNobody(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, name := within(t, patience), prefix(t)+"election"
	for _, what := range []string{"key", "lease"} {
		resign := leading(t, c.Raw(), name, "theirs")
		theirs := besideKey(t, c, name)
		e := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithLockTTL(time.Minute))
		outcome := campaigning(t, ctx, c, e, "", 1)
		keysUnder(t, c.Raw(), name+"/", 2)
		resp, err := c.Raw().Get(ctx, name+"/", clientv3.WithLastCreate()...)
		require.NoError(t, err)
		require.NotEqual(t, theirs, string(resp.Kvs[0].Key))
		if what == "key" {
			require.NoError(t, second(c.Raw().Delete(ctx, string(resp.Kvs[0].Key))))
		} else {
			require.NoError(t, second(c.Raw().Revoke(ctx, clientv3.LeaseID(resp.Kvs[0].Lease))))
		}
		resign()
		require.ErrorIs(t, next(t, outcome), etcd.ErrLockLost, what)
		require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant)
		require.NoError(t, e.Campaign(ctx, nil), "anew")
		require.NoError(t, e.Resign(ctx))
		nothingBeside(t, c, name)
	}
}

// The answer to each request that a candidate sends for its other key is lost once, or all of them.
func TestLostAnswersBesideClientv3AreFound(t *testing.T) {
	t.Parallel()
	srv, now := interferedServer(t)
	for _, m := range modes[:3] {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		ctx, name := within(t, patience), prefix(t)+m.name
		for what, like := range map[string]func(txn *pb.TxnRequest, theirs string) bool{
			"enters":     func(txn *pb.TxnRequest, _ string) bool { return enters(txn, name) },
			"takes":      func(txn *pb.TxnRequest, _ string) bool { return putsLike(txn, "\x00leader") },
			"steps back": func(txn *pb.TxnRequest, theirs string) bool { return stepsBack(txn, name, theirs) },
		} {
			for _, refuse := range []bool{true, false} {
				resign := leading(t, c.Raw(), name, "theirs")
				theirs := besideKey(t, c, name)
				low := newElection(t, c, name, etcd.WithBothKeys())
				high := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithPriority(1))
				var lost atomic.Int64
				f := interference(func(txn *pb.TxnRequest) (bool, error) {
					if !like(txn, theirs) || lost.Add(1) > 1 {
						return false, nil
					}
					return refuse, status.Error(codes.Unavailable, "lost")
				})
				now.Store(&f)
				first := campaigning(t, ctx, c, low, "low", 1)
				keysUnder(t, c.Raw(), name+"/", 2)
				behind := youngestBeside(t, c.Raw(), name)
				then := campaigning(t, ctx, c, high, "high", 2)
				entersBehind(t, c.Raw(), name, behind)
				resign()
				require.NoError(t, next(t, then), what)
				require.Equal(t, high.Token(), leads(t, c, name, "high").Token)
				require.NoError(t, high.Resign(ctx))
				require.NoError(t, next(t, first), what)
				require.NoError(t, low.Resign(ctx))
				now.Store(nil)
				require.Positive(t, lost.Load(), what)
				nothingBeside(t, c, name)
			}
		}
	}
}

func TestFailedCampaignBesideClientv3LeavesNothing(t *testing.T) {
	t.Parallel()
	srv, now := interferedServer(t)
	c := client(t, config(srv))
	ctx, name := within(t, patience), prefix(t)+"election"
	e := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithLockTTL(time.Minute))
	for _, code := range []codes.Code{codes.Unknown, codes.Unavailable, codes.PermissionDenied} {
		for _, refuse := range []bool{true, false} {
			var asked atomic.Int64
			f := interference(func(txn *pb.TxnRequest) (bool, error) {
				if !enters(txn, name) {
					return false, nil
				}
				asked.Add(1)
				return refuse, status.Error(code, "lost")
			})
			now.Store(&f)
			brief, cancel := context.WithCancel(ctx)
			outcome := make(chan error, 1)
			go func() { outcome <- e.Campaign(brief, nil) }()
			require.Eventually(t, func() bool { return asked.Load() > 0 }, patience, time.Millisecond)
			if code == codes.Unavailable {
				cancel()
			}
			require.Error(t, next(t, outcome))
			cancel()
			now.Store(nil)
			require.Zero(t, e.Token())
			leading(t, c.Raw(), name, "long before the lease ends")()
			nothingBeside(t, c, name)
		}
	}
}

// A copy of the request that enters the other queue comes late.
func TestLateEntryBesideClientv3HoldsUpNobody(t *testing.T) {
	t.Parallel()
	srv, now := interferedServer(t)
	c := client(t, config(srv))
	ctx, name := within(t, patience), prefix(t)+"election"
	copies := make(chan *pb.TxnRequest, 10)
	f := interference(func(txn *pb.TxnRequest) (bool, error) {
		if enters(txn, name) {
			copies <- txn
		}
		return false, nil
	})
	now.Store(&f)
	kv := pb.NewKVClient(c.Raw().ActiveConnection())
	late := func(entry *pb.TxnRequest) bool {
		t.Helper()
		now.Store(nil)
		defer now.Store(&f)
		resp, err := kv.Txn(ctx, entry)
		require.NoError(t, err)
		return resp.Succeeded
	}
	leader, ahead := newElection(t, c, name, etcd.WithPriority(2)), newElection(t, c, name, etcd.WithPriority(1))
	e := newElection(t, c, name, etcd.WithBothKeys())
	for _, itsTurn := range []bool{false, true} {
		resign := leading(t, c.Raw(), name, "theirs")
		outcome := campaigning(t, ctx, c, e, "ours", 1)
		keysUnder(t, c.Raw(), name+"/", 2)
		require.NoError(t, leader.Campaign(ctx, nil))
		waiting, leave := context.WithCancel(ctx)
		left := campaigning(t, waiting, c, ahead, "", 3)
		resign()
		keysUnder(t, c.Raw(), name+"/", 0)
		entry := next(t, copies)
		require.True(t, late(entry), "while it is a candidate")
		if itsTurn {
			require.NoError(t, leader.Resign(ctx))
			require.NoError(t, next(t, left))
			require.NoError(t, ahead.Resign(ctx))
		} else {
			leave()
			require.ErrorIs(t, next(t, left), context.Canceled)
			keysUnder(t, c.Raw(), name+"/", 0)
			require.Empty(t, outcome)
			require.NoError(t, leader.Resign(ctx))
		}
		require.NoError(t, next(t, outcome))
		leave()
		require.Equal(t, "ours", theirLeader(t, c.Raw(), name))
		require.False(t, late(entry), "while it leads")
		require.NoError(t, c.Put(e.Guard(ctx), name+"-data", nil))
		require.NoError(t, e.Resign(ctx))
		require.False(t, late(entry), "when it is over")
		nothingBeside(t, c, name)
		for len(copies) > 0 {
			<-copies
		}
	}
}

func TestPanicOfAHookLeavesNoOtherKey(t *testing.T) {
	t.Parallel()
	srv := server(t)
	hook := &startled{}
	c, other := client(t, config(srv).WithHooks(hook)), client(t, config(srv))
	ctx, name := within(t, patience), prefix(t)+"election"
	for _, op := range []string{"campaign", "resign"} {
		for nth := int64(1); nth <= 6; nth++ { // before and after each request
			e := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithLockTTL(time.Minute))
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
			leading(t, other.Raw(), name, "theirs")()
			require.NoError(t, e.Close())
			nothingBeside(t, other, name)
		}
	}
}

func TestReencryptionOfEitherKeyChangesNothing(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ring := ringOf(t, keyNumber(t, 1), keyNumber(t, 2))
	checks := make(chan struct{}, 1000)
	c := client(t, config(srv).WithKeyring(ring).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if req.Op == "check locks" {
			checks <- struct{}{}
		}
	}}))
	ctx, name := within(t, patience), prefix(t)+"election"
	e := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithLockTTL(time.Minute))
	resign := leading(t, c.Raw(), name, "")
	outcome := campaigning(t, ctx, c, e, "value", 1)
	keysUnder(t, c.Raw(), name+"/", 2)
	for _, primary := range []int{2, 1} {
		require.NoError(t, ring.Replace(keyNumber(t, primary), keyNumber(t, 3-primary)))
		require.NoError(t, second(c.Reencrypt(ctx, name+"/")))
		resp, err := c.Raw().Get(ctx, name+"/", clientv3.WithLastCreate()...)
		require.NoError(t, err)
		// The campaign does it itself if it learns only then that its put was applied.
		require.EqualValues(t, 4-primary, resp.Kvs[0].Version, "it was rewritten")
		if primary == 2 { // while it waits
			resign()
			require.NoError(t, next(t, outcome))
		}
	}
	for len(checks) > 0 {
		<-checks
	}
	for range 3 { // the keys, and whether the one is attached to its lease; and once more
		next(t, checks)
	}
	require.NoError(t, c.Put(e.Guard(ctx), name+"-data", nil))
	require.NoError(t, e.Resign(ctx))
	nothingBeside(t, c, name)
}

// The leader resigns before it notices that its key is gone.
func TestResignationAfterALossLeavesNoOtherKey(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, name := within(t, patience), prefix(t)+"election"
	e := newElection(t, c, name, etcd.WithBothKeys(), etcd.WithLockTTL(time.Minute))
	for range 3 {
		require.NoError(t, e.Campaign(ctx, nil))
		require.NoError(t, second(c.Raw().Delete(ctx, leaderKey(name))))
		require.ErrorIs(t, e.Resign(ctx), etcd.ErrLockLost)
		leading(t, c.Raw(), name, "theirs")()
		nothingBeside(t, c, name)
	}
}

// Its key in the other queue goes just before the candidate takes the lead.
func TestPlaceBesideClientv3BindsTheTakeover(t *testing.T) {
	t.Parallel()
	srv, now := interferedServer(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	ctx, name := within(t, patience), prefix(t)+"election"
	f := interference(func(txn *pb.TxnRequest) (bool, error) {
		if putsLike(txn, "\x00leader") {
			resp, err := other.Raw().Delete(ctx, name+"/", clientv3.WithPrefix())
			assert.NoError(t, err)
			assert.EqualValues(t, 1, resp.Deleted)
		}
		return false, nil
	})
	now.Store(&f)
	e := newElection(t, c, name, etcd.WithBothKeys())
	require.ErrorIs(t, e.Campaign(ctx, nil), etcd.ErrLockLost)
	require.ErrorIs(t, second(e.Leader(ctx)), etcd.ErrVacant)
	now.Store(nil)
	nothingBeside(t, c, name)
	require.NoError(t, e.Campaign(ctx, nil))
}

// The request that gives up a place comes late, when it is the candidate's turn again.
func TestLateDeletionBesideClientv3EndsNoLeadership(t *testing.T) {
	t.Parallel()
	srv, now := interferedServer(t)
	c := client(t, config(srv))
	direct := client(t, config(srv))
	ctx, name := within(t, patience), prefix(t)+"election"
	resign := leading(t, direct.Raw(), name, "theirs")
	theirs := besideKey(t, direct, name)
	e := newElection(t, c, name, etcd.WithBothKeys())
	outcome := campaigning(t, t.Context(), direct, e, "ours", 1) // without a deadline, so that a request has one
	keysUnder(t, direct.Raw(), name+"/", 2)
	other := newElection(t, direct, name, etcd.WithPriority(1))
	require.NoError(t, other.Campaign(ctx, nil))
	copies, looks := make(chan *pb.TxnRequest, 1000), make(chan struct{}, 1000)
	f := interference(func(txn *pb.TxnRequest) (bool, error) {
		switch {
		case len(txn.Compare) == 0 && len(txn.Success) > 1 && txn.Success[0].GetRequestTxn() != nil:
			looks <- struct{}{}
			return false, nil
		case len(txn.Success) == 0 || !stepsBack(txn, name, theirs):
			return false, nil
		}
		copies <- txn
		return true, status.Error(codes.Unavailable, "lost")
	})
	now.Store(&f)
	resign()
	late := next(t, copies)
	require.NoError(t, other.Resign(ctx))
	for len(looks) > 0 {
		<-looks
	}
	next(t, looks) // when it has been asked for in vain for as long as a request may take
	now.Store(nil)
	require.NoError(t, next(t, outcome))
	resp, err := pb.NewKVClient(direct.Raw().ActiveConnection()).Txn(ctx, late)
	require.NoError(t, err)
	require.False(t, resp.Succeeded)
	require.NoError(t, direct.Put(ctx, name+"-data", nil))
	require.Equal(t, "ours", theirLeader(t, direct.Raw(), name))
	require.NoError(t, e.Proclaim(ctx, nil))
	require.NoError(t, e.Resign(ctx))
	nothingBeside(t, direct, name)
}

func TestBothValuesAreSealedWithTheKeyOfTheMoment(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ring := ringOf(t, keyNumber(t, 1), keyNumber(t, 2))
	var promoted atomic.Int64
	c := client(t, config(srv).WithKeyring(ring).WithHooks(hook{before: func(ctx context.Context, req etcd.RequestInfo) context.Context {
		if req.Op == "proclaim" && promoted.Add(1) == 1 { // its values are sealed
			assert.NoError(t, ring.Replace(keyNumber(t, 2), keyNumber(t, 1)))
		}
		return ctx
	}}))
	newer := client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 2))))
	ctx, name := within(t, patience), prefix(t)+"election"
	e := newElection(t, c, name, etcd.WithBothKeys())
	require.NoError(t, e.Campaign(ctx, []byte("first")))
	require.NoError(t, e.Proclaim(ctx, []byte("second")))
	require.Positive(t, promoted.Load())
	leads(t, newer, name, "second")
	beside, err := newer.ListWithValues(ctx, name+"/")
	require.NoError(t, err)
	require.Len(t, beside, 1)
	for _, value := range beside {
		require.Equal(t, "second", string(value))
	}
}
