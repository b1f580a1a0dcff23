package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// newSession returns a session for one test.
func newSession(t testing.TB, c *etcd.Client, opts ...etcd.SessionOption) *etcd.Session {
	t.Helper()
	s, err := c.NewSession(t.Context(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

func TestSessionOutlivesItsTimeToLive(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	s, key := newSession(t, c, etcd.WithSessionTTL(2500*time.Millisecond)), prefix(t)+"k"
	require.Equal(t, 3*time.Second, s.TTL(), "rounded up")
	require.NoError(t, c.Put(t.Context(), key, nil, etcd.WithLease(s.Lease())))
	began := time.Now()
	for time.Since(began) < 2*s.TTL() {
		require.NoError(t, second(c.Get(t.Context(), key)))
		require.NoError(t, s.Context().Err())
	}
	require.NoError(t, s.Close(t.Context()))
	closes(t, s.Context().Done())
	require.ErrorIs(t, context.Cause(s.Context()), etcd.ErrClosed)
	require.NotContains(t, context.Cause(s.Context()).Error(), "client")
	require.ErrorIs(t, second(c.Get(t.Context(), key)), etcd.ErrKeyNotFound, "the lease took it along")
	require.NoError(t, s.Close(t.Context()), "again")
}

func TestSessionRefusesBadInputUnsent(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		var none context.Context
		s, err := c.NewSession(t.Context())
		require.NoError(t, err)
		for name, tc := range map[string]struct {
			want error
			call func() error
		}{
			"TTL 0":        {etcd.ErrInvalidTTL, func() error { return second(c.NewSession(t.Context(), etcd.WithSessionTTL(0))) }},
			"TTL -1":       {etcd.ErrInvalidTTL, func() error { return second(c.NewSession(t.Context(), etcd.WithSessionTTL(-time.Second))) }},
			"TTL huge":     {etcd.ErrInvalidTTL, func() error { return second(c.NewSession(t.Context(), etcd.WithSessionTTL(1<<63-1))) }},
			"nil option":   {etcd.ErrInvalidArgument, func() error { return second(c.NewSession(t.Context(), nil)) }},
			"nil context":  {etcd.ErrNilContext, func() error { return second(c.NewSession(none)) }},
			"close by nil": {etcd.ErrNilContext, func() error { return s.Close(none) }},
			"nil session":  {etcd.ErrInvalidArgument, func() error { return second(c.NewLock("l", etcd.WithSession(nil))) }},
			"two TTLs": {etcd.ErrInvalidArgument, func() error {
				return second(c.NewLock("l", etcd.WithSession(s), etcd.WithLockTTL(time.Minute)))
			}},
			"empty name": {etcd.ErrEmptyKey, func() error { return second(c.NewLock("", etcd.WithSession(s))) }},
		} {
			requireRefused(t, o, name, tc.want, tc.call)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, second(c.NewSession(ended)), context.Canceled)
		require.NoError(t, s.Close(t.Context()))
		requireRefused(t, o, "closed session", etcd.ErrClosed, func() error { return second(c.NewLock("l", etcd.WithSession(s))) })
	})
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	require.ErrorIs(t, second(other.NewLock("l", etcd.WithSession(newSession(t, c)))), etcd.ErrInvalidArgument)
}

func TestManyLocksShareOneLeaseAndItsLoss(t *testing.T) {
	t.Parallel()
	const n = 1000
	srv, o := observedServer(t)
	c, other := client(t, config(srv).WithTimeout(busyTimeout)), client(t, config(srv).WithTimeout(busyTimeout))
	s := newSession(t, c)
	locks := make([]*etcd.Lock, n)
	for i := range locks {
		locks[i] = newLock(t, c, fmt.Sprint(prefix(t), i), etcd.WithSession(s))
	}
	seen := o.during(func() {
		for _, l := range locks {
			require.NoError(t, l.Lock(t.Context()))
		}
	})
	require.NotContains(t, seen, "LeaseGrant")
	leases, err := c.Raw().Leases(t.Context())
	require.NoError(t, err)
	require.Len(t, leases.Leases, 1)
	require.EqualValues(t, s.Lease(), leases.Leases[0].ID)
	require.EqualValues(t, n, queueAll(t, c, prefix(t)))
	locked, err := newLock(t, other, locks[7].Name()).TryLock(t.Context())
	require.NoError(t, err)
	require.False(t, locked)

	require.NoError(t, locks[0].Unlock(t.Context()))
	require.NoError(t, locks[1].Close())
	require.EqualValues(t, n-2, queueAll(t, c, prefix(t)))
	require.NoError(t, other.RevokeLease(t.Context(), s.Lease()))
	for _, l := range locks[2:] {
		closes(t, l.Context().Done())
		require.ErrorIs(t, context.Cause(l.Context()), etcd.ErrLockLost)
		require.ErrorIs(t, l.Unlock(t.Context()), etcd.ErrLockLost)
	}
	closes(t, s.Context().Done())
	require.ErrorIs(t, context.Cause(s.Context()), etcd.ErrLeaseLost)
	require.ErrorIs(t, context.Cause(s.Context()), etcd.ErrLeaseNotFound)
	require.ErrorIs(t, locks[5].Lock(t.Context()), etcd.ErrLeaseLost, "a lost session stays lost")
	require.ErrorIs(t, second(locks[5].TryLock(t.Context())), etcd.ErrLeaseLost)
	require.ErrorIs(t, second(c.NewLock("l", etcd.WithSession(s))), etcd.ErrLeaseLost)
	require.NoError(t, s.Close(t.Context()))
}

// queueAll returns how many keys there are under p, claims included.
func queueAll(t testing.TB, c *etcd.Client, p string) int64 {
	t.Helper()
	n, err := c.Count(t.Context(), p)
	require.NoError(t, err)
	return n
}

func TestLocksOfOneNameOnASessionExclude(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		s, name, ctx := newSession(t, c), prefix(t)+"lock", within(t, patience)
		a, b := newLock(t, c, name, etcd.WithSession(s)), newLock(t, c, name, etcd.WithSession(s))
		require.NoError(t, a.Lock(ctx))
		locked, err := b.TryLock(ctx)
		require.NoError(t, err)
		require.False(t, locked)
		require.ErrorIs(t, b.Unlock(ctx), etcd.ErrNotHeld)
		require.EqualValues(t, 1, queue(t, c, name), "it has not deleted the other's key")
		waited := make(chan error, 1)
		go func() { waited <- b.Lock(ctx) }()
		require.NoError(t, a.Unlock(ctx))
		require.NoError(t, next(t, waited))
		require.NoError(t, b.Context().Err())
		require.NoError(t, a.Close())
		require.EqualValues(t, 1, queue(t, c, name))
		require.NoError(t, b.Unlock(ctx))
		require.Zero(t, queue(t, c, name))

		shared := newLock(t, c, name, etcd.WithSession(s))
		apart := newLock(t, c, name)
		inside, most := 0, 0
		var mu sync.Mutex
		var workers sync.WaitGroup
		for _, l := range []*etcd.Lock{shared, b, apart} {
			workers.Go(func() {
				for range 20 {
					require.NoError(t, l.Lock(ctx))
					mu.Lock()
					inside++
					most = max(most, inside)
					mu.Unlock()
					require.NoError(t, c.Put(l.Guard(ctx), name+"/data", nil))
					mu.Lock()
					inside--
					mu.Unlock()
					require.NoError(t, l.Unlock(ctx))
				}
			})
		}
		workers.Wait()
		require.Equal(t, 1, most)
		require.Zero(t, queue(t, c, name))
	})
}

func TestClosedSessionLosesItsLocksFirst(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	s, name, ctx := newSession(t, c), prefix(t)+"lock", within(t, patience)
	l := newLock(t, c, name, etcd.WithSession(s))
	require.NoError(t, l.Lock(ctx))
	guarded := l.Guard(ctx)
	heir := newLock(t, other, name)
	waited := make(chan error, 1)
	go func() { waited <- heir.Lock(ctx) }()
	queues(t, c, name, 2)
	require.NoError(t, s.Close(ctx))
	closes(t, l.Context().Done())
	closes(t, guarded.Done())
	for _, reason := range []error{etcd.ErrLockLost, etcd.ErrClosed} {
		require.ErrorIs(t, context.Cause(l.Context()), reason)
		require.ErrorIs(t, context.Cause(guarded), reason)
	}
	require.NoError(t, next(t, waited))
	require.ErrorIs(t, l.Unlock(ctx), etcd.ErrLockLost)
	require.ErrorIs(t, l.Lock(ctx), etcd.ErrClosed)
	require.NoError(t, heir.Unlock(ctx))
}

func TestLostAnswerOnASessionLeavesNoGhost(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	ctx := within(t, patience)
	s := newSession(t, c, etcd.WithSessionTTL(time.Minute))
	kept := newLock(t, c, prefix(t)+"kept", etcd.WithSession(s))
	require.NoError(t, kept.Lock(ctx))
	for name, acquire := range acquisitions {
		key := prefix(t) + name
		l, heir := newLock(t, c, key, etcd.WithSession(s)), newLock(t, other, key)
		_, err := acquire(f.follow(ctx, &script{answer: status.Error(codes.Unknown, "lost"), times: 1, writesOnly: true}), l)
		require.True(t, etcd.MaybeApplied(err))
		require.NoError(t, heir.Lock(ctx), "long before the lease ends")
		require.NoError(t, heir.Unlock(ctx))

		// The request comes again, late.
		_, err = c.Raw().Put(ctx, key+"\x00"+s.Lease().String(), "", clientv3.WithLease(clientv3.LeaseID(s.Lease())))
		require.NoError(t, err)
		require.NoError(t, heir.Lock(ctx), "it is swept away")
		require.NoError(t, heir.Unlock(ctx))
		require.NoError(t, l.Lock(ctx))
		require.NoError(t, l.Unlock(ctx))
		require.Zero(t, queue(t, c, key))
	}
	require.NoError(t, kept.Context().Err(), "the others keep their lease")
	require.NoError(t, kept.Unlock(ctx))
}

func TestLateClaimIsNeverTheLock(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	ctx := within(t, patience)
	s := newSession(t, c)
	for name, acquire := range acquisitions {
		key := prefix(t) + name
		l, holder := newLock(t, c, key, etcd.WithSession(s)), newLock(t, other, key)
		late := func() int64 {
			resp, err := c.Raw().Put(ctx, key+"\x00"+s.Lease().String(), "", clientv3.WithLease(clientv3.LeaseID(s.Lease())))
			require.NoError(t, err)
			return resp.Header.Revision
		}
		at := late()
		acquired, err := acquire(ctx, l)
		require.NoError(t, err)
		require.True(t, acquired, "nobody else has it")
		require.Greater(t, l.Token(), at, "a claim of its own")
		require.NoError(t, l.Unlock(ctx))

		require.NoError(t, holder.Lock(ctx))
		late()
		acquired, err = l.TryLock(ctx)
		require.NoError(t, err)
		require.False(t, acquired, "another holds it")
		require.EqualValues(t, 1, queue(t, c, key))
		require.NoError(t, holder.Unlock(ctx))
	}
}

func TestLostUnlockOnASessionFreesTheLock(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	ctx := within(t, patience)
	s := newSession(t, c, etcd.WithSessionTTL(time.Minute))
	for _, refuse := range []bool{false, true} {
		key := prefix(t) + fmt.Sprint(refuse)
		l, heir := newLock(t, c, key, etcd.WithSession(s)), newLock(t, other, key)
		require.NoError(t, l.Lock(ctx))
		once := &script{answer: status.Error(codes.Unavailable, "lost"), refuse: refuse, times: 1, writesOnly: true}
		require.NoError(t, l.Unlock(f.follow(ctx, once)), "asked again")
		require.NoError(t, l.Lock(ctx))
		brief, cancel := context.WithTimeout(ctx, time.Second)
		require.Error(t, l.Unlock(f.follow(brief, &script{answer: status.Error(codes.Unavailable, "lost"), refuse: refuse})))
		cancel()
		require.NoError(t, heir.Lock(ctx), "long before the lease ends")
		require.NoError(t, heir.Unlock(ctx))
		require.NoError(t, l.Lock(ctx))
		require.NoError(t, l.Unlock(ctx))
	}
	require.NoError(t, s.Context().Err())
}

func TestLockOnASessionCostsOneRoundTrip(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	s := newSession(t, c)
	seen := o.during(func() {
		require.NoError(t, c.WithLock(t.Context(), prefix(t)+"lock", func(context.Context) error { return nil }, etcd.WithSession(s)))
	})
	requests := 0
	for _, method := range seen {
		if method == "Txn" {
			requests++
		}
	}
	require.LessOrEqual(t, requests, 3, "lock, unlock, and perhaps a check of the key")
	require.NotContains(t, seen, "LeaseGrant")
	require.NotContains(t, seen, "LeaseRevoke")
}

func TestClientsEndLosesItsSessions(t *testing.T) {
	t.Parallel()
	c, err := etcd.NewClient(config(server(t)))
	require.NoError(t, err)
	s, err := c.NewSession(t.Context())
	require.NoError(t, err)
	l, err := c.NewLock("lock", etcd.WithSession(s))
	require.NoError(t, err)
	require.NoError(t, l.Lock(t.Context()))
	held := l.Context()
	require.NoError(t, c.Close())
	closes(t, s.Context().Done())
	require.ErrorIs(t, context.Cause(s.Context()), etcd.ErrClosed)
	closes(t, held.Done())
	require.ErrorIs(t, context.Cause(held), etcd.ErrLockLost)
	require.NoError(t, l.Close())
	require.NoError(t, s.Close(context.Background()))
}

func TestCutOffSessionSaysSoInTime(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	c, proxy := cutOff(t, srv)
	s, err := c.NewSession(t.Context(), etcd.WithSessionTTL(4*time.Second))
	require.NoError(t, err)
	l := brokenLockOn(t, c, proxy, prefix(t)+"lock", s)
	require.NoError(t, l.Lock(t.Context()))
	heir, held, waited := newLock(t, direct, l.Name()), l.Context(), make(chan error, 1)
	go func() {
		assert.NoError(t, heir.Lock(t.Context()))
		waited <- held.Err()
	}()
	queues(t, direct, l.Name(), 2)
	proxy.Blackhole()
	require.Error(t, next(t, waited), "before another has the lock")
	closes(t, s.Context().Done())
	require.ErrorIs(t, context.Cause(s.Context()), etcd.ErrLeaseLost)
	require.NotErrorIs(t, context.Cause(s.Context()), etcd.ErrLeaseNotFound, "nobody could ask")
	err = second(c.NewLock("other", etcd.WithSession(s)))
	require.ErrorIs(t, err, etcd.ErrLeaseLost)
	require.False(t, etcd.IsRetryable(err), "it stays lost, whatever the reason")
	require.ErrorIs(t, l.Unlock(t.Context()), etcd.ErrLockLost)
	proxy.Heal()
	require.NoError(t, s.Close(t.Context()))
}

// brokenLockOn is brokenLock for a lock on a session.
func brokenLockOn(t testing.TB, c *etcd.Client, proxy *etcdtest.Proxy, name string, s *etcd.Session) *etcd.Lock {
	t.Helper()
	l, err := c.NewLock(name, etcd.WithSession(s))
	require.NoError(t, err)
	t.Cleanup(func() {
		proxy.Heal()
		require.NoError(t, l.Close())
	})
	return l
}
