package integration

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// cutOff returns a client whose way to the server can be broken.
func cutOff(t testing.TB, srv *etcdtest.Server) (*etcd.Client, *etcdtest.Proxy) {
	t.Helper()
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	return client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint())), proxy
}

// cutOffWaiter is cutOff for a client that waits for a lock. The channel gets a
// value when it knows its place in the queue: the server knows it earlier, and a
// client that is cut off in between is told that its outcome is unknown.
func cutOffWaiter(t testing.TB, srv *etcdtest.Server) (*etcd.Client, *etcdtest.Proxy, <-chan struct{}) {
	t.Helper()
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c, inQueue := queueingClient(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	return c, proxy, inQueue
}

// brokenLock returns a lock of a client whose way to the server can be broken,
// and may be so when the test ends.
func brokenLock(t testing.TB, c *etcd.Client, proxy *etcdtest.Proxy, name string, ttl time.Duration) *etcd.Lock {
	t.Helper()
	l, err := c.NewLock(name, etcd.WithLockTTL(ttl))
	require.NoError(t, err)
	t.Cleanup(func() {
		proxy.Heal()
		require.NoError(t, l.Close())
	})
	return l
}

func TestLockIsLostBeforeAnotherCanGetIt(t *testing.T) {
	t.Parallel()
	const (
		trials = 16
		ttl    = 2 * time.Second
	)
	srv := server(t)
	direct := client(t, config(srv))
	ctx := within(t, patience)
	margins := make([]time.Duration, trials)
	var wg sync.WaitGroup
	for i := range trials {
		name := prefix(t) + string(rune('a'+i))
		c, proxy := cutOff(t, srv)
		holder, other := brokenLock(t, c, proxy, name, ttl), newLock(t, direct, name, etcd.WithLockTTL(ttl))
		wg.Go(func() { margins[i] = margin(t, ctx, holder, other, proxy, time.Duration(i)*ttl/trials) })
	}
	wg.Wait()
	slices.Sort(margins)
	t.Logf("TTL %v, %d trials: another had the lock between %v and %v after it was lost, median %v", ttl, trials,
		margins[0].Round(time.Millisecond), margins[trials-1].Round(time.Millisecond), margins[trials/2].Round(time.Millisecond))
}

// margin returns how long after holder has lost the lock, its network being gone,
// other gets it.
func margin(t *testing.T, ctx context.Context, holder, other *etcd.Lock, proxy *etcdtest.Proxy, after time.Duration) time.Duration {
	if err := holder.Lock(ctx); err != nil {
		t.Error(err)
		return 0
	}
	acquired, held := make(chan time.Time, 1), holder.Context()
	go func() {
		defer close(acquired)
		err := other.Lock(ctx)
		at := time.Now()
		if err != nil {
			t.Error(err)
		}
		if held.Err() == nil {
			t.Error("two hold the lock at once")
		}
		acquired <- at
	}()
	time.AfterFunc(after, func() { proxy.Blackhole() }) // at any moment between two renewals
	<-held.Done()
	lost := time.Now()
	if got := <-acquired; !got.IsZero() {
		return got.Sub(lost)
	}
	return 0
}

func TestLostLockIsHarmlessAndCanBeRetaken(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	c, proxy := cutOff(t, srv)
	name, ctx := prefix(t)+"lock", within(t, patience)
	former := brokenLock(t, c, proxy, name, 3*time.Second)
	heir := newLock(t, direct, name)
	require.NoError(t, former.Lock(ctx))
	token, held := former.Token(), former.Held()
	fenced := func(cond etcd.Condition) bool {
		res, err := direct.Txn().If(cond).Then(etcd.OpPut(name+"/data", nil)).Commit(ctx)
		require.NoError(t, err)
		return res.Succeeded
	}
	require.True(t, fenced(held))
	require.False(t, fenced(heir.Held()), "held by another")

	proxy.Blackhole()
	closes(t, former.Context().Done())
	require.ErrorIs(t, context.Cause(former.Context()), etcd.ErrLockLost)
	require.ErrorIs(t, context.Cause(former.Context()), etcd.ErrLeaseLost)
	require.NoError(t, heir.Lock(ctx))
	require.Greater(t, heir.Token(), token)
	require.False(t, fenced(held), "the former holder still writes")
	require.True(t, fenced(heir.Held()))

	require.Equal(t, token, former.Token(), "what it had")
	require.ErrorIs(t, former.Unlock(ctx), etcd.ErrLockLost)
	require.ErrorIs(t, former.Unlock(ctx), etcd.ErrNotHeld)
	require.False(t, fenced(former.Held()))

	proxy.Heal()
	require.NoError(t, heir.Unlock(ctx))
	require.NoError(t, former.Lock(ctx), "with a new lease")
	require.NoError(t, former.Context().Err())
	require.Greater(t, former.Token(), token)
	require.NoError(t, former.Unlock(ctx))
}

func TestLockWhoseLeaseIsRevokedIsLost(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"lock", within(t, patience)
	revokeAll := func() {
		resp, err := c.Raw().Leases(ctx)
		require.NoError(t, err)
		for _, l := range resp.Leases {
			_, err := c.Raw().Revoke(ctx, l.ID)
			require.NoError(t, err)
		}
	}
	lock := newLock(t, c, name, etcd.WithLockTTL(4*time.Second))
	require.NoError(t, lock.Lock(ctx))
	held := lock.Context()
	revokeAll()
	closes(t, held.Done())
	require.ErrorIs(t, context.Cause(held), etcd.ErrLockLost)
	// Its key went with the lease: whichever is noticed first is the reason.
	gone := errors.Is(context.Cause(held), etcd.ErrLeaseNotFound) || errors.Is(context.Cause(held), etcd.ErrLockKeyDeleted)
	require.True(t, gone, context.Cause(held))
	require.ErrorIs(t, lock.Unlock(ctx), etcd.ErrLockLost)

	require.NoError(t, lock.Lock(ctx), "with a new lease")
	revokeAll()
	require.ErrorIs(t, lock.Unlock(ctx), etcd.ErrLockLost, "noticed by the server alone")

	revokeAll()
	require.NoError(t, lock.Lock(ctx), "the server alone knows that the lease is gone")
	require.NoError(t, lock.Unlock(ctx))
	revokeAll()
	acquired, err := lock.TryLock(ctx)
	require.NoError(t, err)
	require.True(t, acquired)
	require.NoError(t, lock.Unlock(ctx))

	err = c.WithLock(ctx, name, func(ctx context.Context) error {
		revokeAll()
		<-ctx.Done()
		return context.Cause(ctx)
	}, etcd.WithLockTTL(4*time.Second))
	require.ErrorIs(t, err, etcd.ErrLockLost)

	holder, waiter := newLock(t, c, name), newLock(t, c, name, etcd.WithLockTTL(4*time.Second))
	require.NoError(t, holder.Lock(ctx))
	waited := make(chan error, 1)
	go func() { waited <- waiter.Lock(ctx) }()
	queues(t, c, name, 2)
	revokeAll()
	require.ErrorIs(t, next(t, waited), etcd.ErrLockLost, "a place in the queue")
}

// This test measures a tenth of a second, so it is not parallel.
func TestLockReturnsSoonAfterItsContextEnds(t *testing.T) {
	srv := server(t)
	direct := client(t, config(srv))
	ctx := within(t, patience)
	const limit, ttl = 500 * time.Millisecond, time.Second
	pace, worst := keepPace(t), time.Duration(0)
	for name, cut := range map[string]func(*etcdtest.Proxy){
		"healthy":        func(*etcdtest.Proxy) {},
		"blackhole":      func(p *etcdtest.Proxy) { p.Blackhole() },
		"answers lost":   func(p *etcdtest.Proxy) { p.Blackhole(etcdtest.ToClient) },
		"refused":        func(p *etcdtest.Proxy) { p.Refuse(); p.Cut() },
		"free, no reply": nil,
	} {
		c, proxy, inQueue := cutOffWaiter(t, srv)
		key := prefix(t) + name
		holder, waiter := newLock(t, direct, key), brokenLock(t, c, proxy, key, ttl)
		returned := make(chan time.Duration, 1)
		errs := make(chan error, 1)
		begin := func() {
			bounded := within(t, limit)
			deadline, _ := bounded.Deadline()
			go func() {
				errs <- waiter.Lock(bounded)
				returned <- time.Since(deadline)
			}()
		}
		if cut != nil {
			require.NoError(t, holder.Lock(ctx))
			begin()
			next(t, inQueue)
			cut(proxy)
			require.ErrorIs(t, next(t, errs), etcd.ErrTimeout, name)
		} else {
			proxy.Blackhole(etcdtest.ToClient)
			begin()
			err := next(t, errs)
			require.ErrorIs(t, err, etcd.ErrTimeout)
			require.True(t, etcd.MaybeApplied(err))
		}
		worst = max(worst, next(t, returned))

		// Nothing stays behind for longer than the lease.
		if cut != nil {
			require.NoError(t, holder.Unlock(ctx))
		}
		began := time.Now()
		require.NoError(t, holder.Lock(ctx))
		require.Less(t, time.Since(began), pace.allow(2*ttl), name)
		queues(t, direct, key, 1)
	}
	t.Logf("returned up to %v after the end of the context", worst.Round(time.Millisecond))
	require.Less(t, worst, pace.allow(100*time.Millisecond))
}

func TestLostAnswerLeavesNoGhost(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	ctx := within(t, patience)
	lost := status.Error(codes.Unknown, "the answer was lost")
	for name, acquire := range acquisitions {
		key := prefix(t) + name
		l := newLock(t, c, key)
		s := &script{answer: lost, times: 1, writesOnly: true}
		_, err := acquire(f.follow(ctx, s), l)
		require.ErrorIs(t, err, etcd.ErrServer)
		require.True(t, etcd.MaybeApplied(err))
		require.EqualValues(t, 1, s.executed.Load())
		require.ErrorIs(t, l.Unlock(ctx), etcd.ErrNotHeld)

		pace, began := keepPace(t), time.Now()
		heir := newLock(t, other, key)
		require.NoError(t, heir.Lock(ctx))
		t.Logf("%s: another had the lock %v after the lost answer", name, time.Since(began).Round(time.Millisecond))
		require.Less(t, time.Since(began), pace.allow(etcd.DefaultLockTTL/3), "not by the end of the lease")
		require.NoError(t, heir.Unlock(ctx))
		require.NoError(t, l.Lock(ctx), "with a new lease")
		require.NoError(t, l.Unlock(ctx))
	}
}

func TestLockIsTakenThoughTheAnswerWasLost(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c := client(t, config(srv))
	ctx := within(t, patience)
	for name, acquire := range acquisitions {
		key := prefix(t) + name
		l, next := newLock(t, c, key), newLock(t, c, key)
		s := &script{answer: status.Error(codes.Unavailable, "the answer was lost"), times: 1, writesOnly: true}
		acquired, err := acquire(f.follow(ctx, s), l)
		require.NoError(t, err)
		require.True(t, acquired)
		require.EqualValues(t, 1, s.executed.Load())
		require.EqualValues(t, 1, queue(t, c, key))
		res, err := c.Txn().If(l.Held()).Commit(ctx)
		require.NoError(t, err)
		require.True(t, res.Succeeded, "the token is that of the request that was applied")
		acquired, err = next.TryLock(ctx)
		require.NoError(t, err)
		require.False(t, acquired)
		claims, err := l.Queue(ctx)
		require.NoError(t, err)
		require.NoError(t, l.Unlock(ctx))
		require.Eventually(t, func() bool { // by which a late request would come back
			_, err := c.TimeToLive(ctx, claims[0].Lease)
			return errors.Is(err, etcd.ErrLeaseNotFound)
		}, patience, time.Millisecond)
		require.NoError(t, next.Lock(ctx))
		require.NoError(t, next.Unlock(ctx))
	}
}

func TestLostUnlockSetsTheLockFree(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c := client(t, config(srv))
	key, ctx := prefix(t)+"lock", within(t, patience)
	for _, refuse := range []bool{false, true} {
		l, heir := newLock(t, c, key), newLock(t, c, key)
		require.NoError(t, l.Lock(ctx))
		s := &script{answer: status.Error(codes.Unavailable, "lost"), refuse: refuse}
		require.ErrorIs(t, l.Unlock(f.follow(ctx, s)), etcd.ErrUnavailable)
		pace, began := keepPace(t), time.Now()
		require.NoError(t, heir.Lock(ctx))
		require.Less(t, time.Since(began), pace.allow(etcd.DefaultLockTTL/3))
		require.NoError(t, heir.Unlock(ctx))
	}
}

func TestLockOutlivesARestartOfTheServer(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	name, ctx := prefix(t)+"lock", within(t, patience)
	holder, waiter := newLock(t, c, name), newLock(t, other, name)
	require.NoError(t, holder.Lock(ctx))
	waited := make(chan error, 1)
	go func() { waited <- waiter.Lock(ctx) }()
	queues(t, c, name, 2)
	for range 2 {
		require.NoError(t, srv.Restart())
		queues(t, c, name, 2)
	}
	require.Empty(t, waited)
	require.NoError(t, holder.Context().Err())
	require.NoError(t, holder.Unlock(ctx))
	require.NoError(t, next(t, waited))
	require.NoError(t, waiter.Unlock(ctx))
}

func TestWaiterThatLosesItsLeaseIsTold(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	c, proxy, inQueue := cutOffWaiter(t, srv)
	name, ctx := prefix(t)+"lock", within(t, patience)
	holder, waiter := newLock(t, direct, name), brokenLock(t, c, proxy, name, 3*time.Second)
	require.NoError(t, holder.Lock(ctx))
	waited := make(chan error, 1)
	go func() { waited <- waiter.Lock(ctx) }()
	next(t, inQueue)
	proxy.Blackhole()
	err := next(t, waited)
	require.ErrorIs(t, err, etcd.ErrLockLost)
	require.NotErrorIs(t, err, context.Canceled)
	queues(t, direct, name, 1)
}
