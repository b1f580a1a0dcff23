package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// Each trap is shown on package concurrency of clientv3 first, and then that it is none here.
// Should theirs change one day, its test says so.
func TestTrapsOfPackageConcurrencyAreNotOurs(t *testing.T) {
	t.Parallel()
	for name, trap := range map[string]func(*testing.T, *rivals){
		"two mutexes on a session both hold":    twoMutexesOnASession,
		"names below a name are in its way":     namesBelowAName,
		"the wait outlives its lease":           waitOutlivesItsLease,
		"the wait outlives its context":         waitOutlivesItsContext,
		"a refused try stays in the queue":      refusedTryStays,
		"a lost answer leaves a ghost":          lostAnswerLeavesAGhost,
		"unlocking a lost lock succeeds":        unlockOfALostLock,
		"a deleted key and its writes go by":    deletedKeyGoesBy,
		"a time to live of nothing is a minute": timeToLiveOfNothing,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, f := faultyServer(t)
			c := client(t, config(srv))
			trap(t, &rivals{srv: srv, faults: f, ctx: within(t, patience), ours: c, theirs: c.Raw()})
		})
	}
}

// rivals are clients of one server. Names of theirs begin with /theirs, and ours with /ours.
type rivals struct {
	srv    *etcdtest.Server
	faults *faults
	ctx    context.Context
	ours   *etcd.Client
	theirs *clientv3.Client
}

// etcd-io/etcd#22082
func twoMutexesOnASession(t *testing.T, r *rivals) {
	a, s := mutex(t, r.theirs, "/theirs")
	b, other, ctx := concurrency.NewMutex(s, "/theirs"), first(mutex(t, r.theirs, "/theirs")), r.ctx
	require.NoError(t, a.Lock(ctx))
	require.NoError(t, a.Lock(ctx), "again, by whatever goroutine")
	require.NoError(t, b.Lock(ctx))
	require.NoError(t, a.Unlock(ctx))
	require.NoError(t, other.TryLock(ctx), "the key of b is gone with that of a")

	shared := newSession(t, r.ours)
	l, m := newLock(t, r.ours, "/ours", etcd.WithSession(shared)), newLock(t, r.ours, "/ours", etcd.WithSession(shared))
	require.NoError(t, l.Lock(ctx))
	for _, l := range []*etcd.Lock{l, m, newLock(t, r.ours, "/ours")} {
		acquired, err := l.TryLock(ctx)
		require.NoError(t, err)
		require.False(t, acquired)
	}
	require.ErrorIs(t, m.Unlock(ctx), etcd.ErrNotHeld)
	require.NoError(t, r.ours.Put(l.Guard(ctx), "/data", nil), "its key is still there")
}

func namesBelowAName(t *testing.T, r *rivals) {
	ctx := r.ctx
	require.NoError(t, first(mutex(t, r.theirs, "/theirs/below")).Lock(ctx))
	require.ErrorIs(t, first(mutex(t, r.theirs, "/theirs")).TryLock(ctx), concurrency.ErrLocked)
	require.NoError(t, r.ours.Put(ctx, "/theirs2/data", nil))
	require.ErrorIs(t, first(mutex(t, r.theirs, "/theirs2")).TryLock(ctx), concurrency.ErrLocked, "for good")

	require.NoError(t, newLock(t, r.ours, "/ours/below").Lock(ctx))
	require.NoError(t, r.ours.Put(ctx, "/ours/data", nil))
	acquired, err := newLock(t, r.ours, "/ours").TryLock(ctx)
	require.NoError(t, err)
	require.True(t, acquired)
}

// etcd-io/etcd#19597
func waitOutlivesItsLease(t *testing.T, r *rivals) {
	ctx, waited := r.ctx, make(chan error, 1)
	holder, _ := mutex(t, r.theirs, "/theirs")
	waiter, s := mutex(t, r.theirs, "/theirs")
	require.NoError(t, holder.Lock(ctx))
	go func() { waited <- waiter.Lock(ctx) }()
	keysUnder(t, r.theirs, "/theirs/", 2)
	require.NoError(t, second(r.theirs.Revoke(ctx, s.Lease())))
	closes(t, s.Done())
	require.Empty(t, waited, "it waits for the holder, with no place in the queue")
	require.NoError(t, holder.Unlock(ctx))
	require.ErrorIs(t, next(t, waited), concurrency.ErrSessionExpired)

	l, shared := newLock(t, r.ours, "/ours"), newSession(t, r.ours)
	m := newLock(t, r.ours, "/ours", etcd.WithSession(shared))
	require.NoError(t, l.Lock(ctx))
	go func() { waited <- m.Lock(ctx) }()
	queues(t, r.ours, "/ours", 2)
	require.NoError(t, r.ours.RevokeLease(ctx, shared.Lease()))
	require.ErrorIs(t, next(t, waited), etcd.ErrLockLost)
	require.NoError(t, l.Context().Err(), "while another holds it")
}

// etcd-io/etcd#18082
func waitOutlivesItsContext(t *testing.T, r *rivals) {
	ctx := r.ctx
	c, proxy := cutOff(t, r.srv)
	holder, _ := mutex(t, r.theirs, "/theirs")
	require.NoError(t, holder.Lock(ctx))
	waiter, _ := mutex(t, c.Raw(), "/theirs")
	l, m := newLock(t, r.ours, "/ours"), brokenLock(t, c, proxy, "/ours", time.Minute)
	require.NoError(t, l.Lock(ctx))

	brief, cancel := context.WithCancel(ctx)
	theirs, ours := make(chan error, 1), make(chan error, 1)
	go func() { theirs <- waiter.Lock(brief) }()
	go func() { ours <- m.Lock(brief) }()
	keysUnder(t, r.theirs, "/theirs/", 2)
	queues(t, r.ours, "/ours", 2)
	proxy.Blackhole()
	cancel()
	require.ErrorIs(t, next(t, ours), context.Canceled)
	require.Empty(t, theirs, "it waits for an answer to its deletion")
	proxy.Heal()
	require.Error(t, next(t, theirs))
}

func refusedTryStays(t *testing.T, r *rivals) {
	ctx := r.ctx
	lossy, err := clientv3.New(clientv3.Config{
		Endpoints: r.srv.Endpoints(), Logger: r.theirs.GetLogger(),
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(noDeletions)},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, lossy.Close()) }()
	holder, _ := mutex(t, r.theirs, "/theirs")
	require.NoError(t, holder.Lock(ctx))
	refused, s := mutex(t, lossy, "/theirs")
	require.Error(t, refused.TryLock(ctx), "neither taken nor refused")
	require.NoError(t, holder.Unlock(ctx))
	require.ErrorIs(t, holder.TryLock(ctx), concurrency.ErrLocked, "by the one that was refused")
	require.NoError(t, s.Close())

	l := newLock(t, r.ours, "/ours")
	require.NoError(t, l.Lock(ctx))
	sent := &script{}
	acquired, err := newLock(t, r.ours, "/ours").TryLock(r.faults.follow(ctx, sent))
	require.NoError(t, err)
	require.False(t, acquired)
	require.EqualValues(t, 1, sent.seen.Load(), "there is nothing to clean up")
	require.NoError(t, l.Unlock(ctx))
	acquired, err = l.TryLock(ctx)
	require.NoError(t, err)
	require.True(t, acquired)
}

// noDeletions fails requests that delete keys before they are sent.
func noDeletions(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if strings.HasSuffix(method, "/DeleteRange") {
		return status.Error(codes.Unavailable, "lost")
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

func lostAnswerLeavesAGhost(t *testing.T, r *rivals) {
	ctx := r.ctx
	lost := func() context.Context {
		return r.faults.follow(ctx, &script{answer: status.Error(codes.Unknown, "lost"), times: 1, writesOnly: true})
	}
	ghost, _ := mutex(t, r.theirs, "/theirs")
	require.Error(t, ghost.Lock(lost()))
	require.ErrorIs(t, ghost.Unlock(ctx), concurrency.ErrLockReleased)
	require.ErrorIs(t, first(mutex(t, r.theirs, "/theirs")).TryLock(ctx), concurrency.ErrLocked, "while the session lives")

	l, heir := newLock(t, r.ours, "/ours"), newLock(t, r.ours, "/ours")
	require.True(t, etcd.MaybeApplied(l.Lock(lost())))
	require.NoError(t, heir.Lock(ctx))
}

func unlockOfALostLock(t *testing.T, r *rivals) {
	ctx := r.ctx
	s, err := concurrency.NewSession(r.theirs, concurrency.WithTTL(3)) // which it asks about every second
	require.NoError(t, err)
	m := concurrency.NewMutex(s, "/theirs")
	require.NoError(t, m.Lock(ctx))
	require.NoError(t, second(r.theirs.Revoke(ctx, s.Lease())))
	closes(t, s.Done())
	require.NoError(t, m.Unlock(ctx), "as if nothing had happened")

	shared := newSession(t, r.ours)
	l := newLock(t, r.ours, "/ours", etcd.WithSession(shared))
	require.NoError(t, l.Lock(ctx))
	require.NoError(t, r.ours.RevokeLease(ctx, shared.Lease()))
	closes(t, l.Context().Done())
	require.ErrorIs(t, l.Unlock(ctx), etcd.ErrLockLost)
}

// etcd-io/etcd#6127, #11457
func deletedKeyGoesBy(t *testing.T, r *rivals) {
	ctx := r.ctx
	m, s := mutex(t, r.theirs, "/theirs")
	require.NoError(t, m.Lock(ctx))
	require.NoError(t, second(r.theirs.Delete(ctx, m.Key())))
	require.NoError(t, first(mutex(t, r.theirs, "/theirs")).Lock(ctx))
	require.NoError(t, second(r.theirs.Put(ctx, "/data", "of the former holder")))

	l, heir := newLock(t, r.ours, "/ours"), newLock(t, r.ours, "/ours")
	require.NoError(t, l.Lock(ctx))
	guarded := context.WithoutCancel(l.Guard(ctx))
	require.NoError(t, second(r.ours.Delete(ctx, ownKey(t, r.ours, "/ours"))))
	require.NoError(t, heir.Lock(ctx))
	require.ErrorIs(t, r.ours.Put(guarded, "/data", []byte("of ours")), etcd.ErrLockLost)
	closes(t, l.Context().Done())
	require.ErrorIs(t, context.Cause(l.Context()), etcd.ErrLockKeyDeleted)
	select {
	case <-s.Done():
		t.Error("their session notices the deletion")
	default:
	}
}

func timeToLiveOfNothing(t *testing.T, r *rivals) {
	s, err := concurrency.NewSession(r.theirs, concurrency.WithTTL(0))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	ttl, err := r.theirs.TimeToLive(r.ctx, s.Lease())
	require.NoError(t, err)
	require.EqualValues(t, 60, ttl.GrantedTTL)

	_, err = r.ours.NewSession(r.ctx, etcd.WithSessionTTL(0))
	require.ErrorIs(t, err, etcd.ErrInvalidTTL)
	_, err = r.ours.NewLock("/ours", etcd.WithLockTTL(0))
	require.ErrorIs(t, err, etcd.ErrInvalidTTL)
}
