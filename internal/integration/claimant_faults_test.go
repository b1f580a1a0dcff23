package integration

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestLostAnswerToAClaimLeavesNoGhost(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		srv, f := faultyServer(t)
		c, other := client(t, config(srv)), client(t, config(srv))
		ctx, s := within(t, 2*patience), newSession(t, c, etcd.WithSessionTTL(time.Minute))
		for on, opts := range map[string][]etcd.SeatOption{
			"lease":   {etcd.WithLockTTL(time.Minute)},
			"session": {etcd.WithSession(s)},
		} {
			own, heir := kind.of(t, c, prefix(t)+on, opts...), kind.against(t, other, prefix(t)+on)
			for way, acquire := range own.ways() {
				require.NoError(t, own.take(ctx), "so that a lease is at hand")
				require.NoError(t, own.release(ctx))
				lost := &script{answer: status.Error(codes.Unknown, "lost"), times: 1, writesOnly: true}
				taken, err := acquire(f.follow(ctx, lost))
				require.False(t, taken, "%s, %s", on, way)
				require.True(t, etcd.MaybeApplied(err), "%s, %s: %v", on, way, err)
				require.EqualValues(t, 1, lost.executed.Load())
				require.ErrorIs(t, own.release(ctx), etcd.ErrNotHeld)
				require.NoError(t, heir.take(ctx), "long before the lease ends")
				require.NoError(t, heir.release(ctx))
				require.NoError(t, own.take(ctx))
				require.NoError(t, own.release(ctx))
			}
			queues(t, c, own.Name(), 0)
		}
		require.NoError(t, s.Context().Err(), "others keep their lease")
	})
}

func TestClaimIsTakenThoughTheAnswerWasLost(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		srv, f := faultyServer(t)
		c := client(t, config(srv))
		ctx, s := within(t, 2*patience), newSession(t, c)
		for on, opts := range map[string][]etcd.SeatOption{"lease": nil, "session": {etcd.WithSession(s)}} {
			own, heir := kind.of(t, c, prefix(t)+on, opts...), kind.against(t, c, prefix(t)+on)
			for way, acquire := range own.ways() {
				require.NoError(t, own.take(ctx), "so that a lease is at hand")
				require.NoError(t, own.release(ctx))
				lost := &script{answer: status.Error(codes.Unavailable, "lost"), times: 1, writesOnly: true}
				taken, err := acquire(f.follow(ctx, lost))
				require.NoError(t, err, "%s, %s", on, way)
				require.True(t, taken, "%s, %s", on, way)
				require.EqualValues(t, 1, queue(t, c, own.Name()))
				res, err := c.Txn().If(own.Held()).Commit(ctx)
				require.NoError(t, err)
				require.True(t, res.Succeeded, "the token is that of the claim that counts")
				require.False(t, heir.tries(t, ctx))
				require.NoError(t, own.release(ctx))
				require.NoError(t, heir.take(ctx))
				require.NoError(t, heir.release(ctx))
			}
		}
	})
}

func TestLostReleaseSetsAClaimFree(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		srv, f := faultyServer(t)
		c := client(t, config(srv))
		ctx := within(t, 2*patience)
		own, heir := kind.of(t, c, prefix(t)+"name", etcd.WithLockTTL(time.Minute)), kind.against(t, c, prefix(t)+"name")
		for _, refuse := range []bool{false, true} {
			require.NoError(t, own.take(ctx))
			lost := &script{answer: status.Error(codes.Unavailable, "lost"), refuse: refuse}
			require.ErrorIs(t, own.release(f.follow(ctx, lost)), etcd.ErrUnavailable)
			require.ErrorIs(t, own.release(ctx), etcd.ErrNotHeld)
			require.NoError(t, heir.take(ctx), "long before the lease ends")
			require.NoError(t, heir.release(ctx))
		}
	})
}

func TestLateClaimOnASessionIsSweptAway(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		srv, f := faultyServer(t)
		c, other := client(t, config(srv)), client(t, config(srv))
		ctx, s := within(t, patience), newSession(t, c, etcd.WithSessionTTL(time.Minute))
		own, heir := kind.of(t, c, prefix(t)+"name", etcd.WithSession(s)), kind.against(t, other, prefix(t)+"name")
		require.NoError(t, own.take(ctx))
		late := ownKey(t, c, own.Name())
		require.NoError(t, own.release(ctx))
		lost := &script{answer: status.Error(codes.Unknown, "lost"), times: 1, writesOnly: true, refuse: true}
		require.True(t, etcd.MaybeApplied(own.take(f.follow(ctx, lost))))

		// The request comes after all: its claim has the key of the one before.
		require.NoError(t, second(c.Raw().Put(ctx, late, "", clientv3.WithLease(clientv3.LeaseID(s.Lease())))))
		require.NoError(t, heir.take(ctx))
		require.NoError(t, s.Context().Err())
	})
}

func TestCutOffClaimsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		const ttl = time.Second
		srv := server(t)
		direct := client(t, config(srv))
		ctx := within(t, 2*patience)
		for how, cut := range map[string]func(*etcdtest.Proxy){
			"blackhole":    func(p *etcdtest.Proxy) { p.Blackhole() },
			"answers lost": func(p *etcdtest.Proxy) { p.Blackhole(etcdtest.ToClient) },
			"refused":      func(p *etcdtest.Proxy) { p.Refuse(); p.Cut() },
		} {
			proxy := etcdtest.NewProxy(t, srv.Endpoint())
			c, inQueue := queueingClient(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
			name := prefix(t) + how
			own, other := kind.of(t, c, name, etcd.WithLockTTL(ttl)), kind.against(t, direct, name)
			t.Cleanup(proxy.Heal)

			// One that holds is told before another has it.
			require.NoError(t, own.take(ctx), how)
			next(t, inQueue)
			told := make(chan time.Time, 1)
			context.AfterFunc(own.Context(), func() { told <- time.Now() })
			waits := other.taking(t, ctx, direct, 2)
			cut(proxy)
			require.NoError(t, next(t, waits), how)
			got := time.Now()
			require.True(t, next(t, told).Before(got), how)
			require.ErrorIs(t, own.release(ctx), etcd.ErrLockLost, how)

			// One that waits is told, and gone.
			proxy.Heal()
			waits = own.taking(t, ctx, direct, 2)
			next(t, inQueue)
			cut(proxy)
			require.ErrorIs(t, next(t, waits), etcd.ErrLockLost, how)
			queues(t, direct, name, 1)

			// One whose answer is lost is gone after its time.
			proxy.Heal()
			require.NoError(t, other.release(ctx), how)
			own.settles(t, ctx)
			proxy.Blackhole(etcdtest.ToClient)
			brief, cancel := context.WithTimeout(ctx, ttl/4)
			require.ErrorIs(t, own.take(brief), etcd.ErrTimeout, how)
			cancel()
			require.NoError(t, other.take(ctx), how)
			proxy.Heal()
			queues(t, direct, name, 1)
			require.NoError(t, other.release(ctx), how)
		}
	})
}

func TestClaimsOutliveARestartOfTheServer(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		srv := server(t)
		c, direct := client(t, config(srv)), client(t, config(srv))
		name, ctx := prefix(t)+"name", within(t, patience)
		own, waiter := kind.of(t, c, name), kind.against(t, direct, name)
		require.NoError(t, own.take(ctx))
		waits := waiter.taking(t, ctx, direct, 2)
		require.NoError(t, srv.Restart())
		queues(t, direct, name, 2)
		require.Empty(t, waits)
		require.NoError(t, own.Context().Err())
		require.NoError(t, own.release(ctx))
		require.NoError(t, next(t, waits))
	})
}

func TestPanicOfAHookLeavesNoClaim(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		srv := server(t)
		other := client(t, config(srv))
		panics := make(chan struct{}, 1)
		c := client(t, config(srv).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
			if req.Op == "check locks" || req.Op == "grant" || req.Op == "revoke" || req.Op == "withdraw" {
				return
			}
			select {
			case <-panics:
				panic("hook")
			default:
			}
		}}))
		ctx := within(t, 2*patience)
		own, heir := kind.of(t, c, prefix(t)+"name", etcd.WithLockTTL(time.Minute)), kind.against(t, other, prefix(t)+"name")
		for way, acquire := range own.ways() {
			panics <- struct{}{}
			require.Panics(t, func() { _, _ = acquire(ctx) }, way)
			require.ErrorIs(t, own.release(ctx), etcd.ErrNotHeld, way)
			require.NoError(t, heir.take(ctx), way)
			require.NoError(t, heir.release(ctx), way)
			require.NoError(t, own.take(ctx), way)
			panics <- struct{}{}
			require.Panics(t, func() { _ = own.release(ctx) }, way)
			require.NoError(t, heir.take(ctx), way)
			require.NoError(t, heir.release(ctx), way)
		}
	})
}

func TestPanicWhileClosingLeavesNoOtherClaim(t *testing.T) {
	t.Parallel()
	srv := server(t)
	other := client(t, config(srv))
	var panics atomic.Bool
	c := client(t, config(srv).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if req.Op == "revoke" && panics.CompareAndSwap(true, false) {
			panic("hook")
		}
	}}))
	name, ctx := prefix(t)+"name", within(t, patience)
	many, err := c.NewSemaphore(name, 3, etcd.WithLockTTL(time.Hour))
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, many.Acquire(ctx))
	}
	panics.Store(true)
	require.Panics(t, func() { _ = many.Close() })
	all, err := other.NewSemaphore(name, 3, etcd.WithWeight(3))
	require.NoError(t, err)
	require.NoError(t, all.Acquire(ctx))
	require.NoError(t, all.Close())
}
