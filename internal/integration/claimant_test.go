package integration

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

func TestClaimsOfOneValueAreHeldSeverally(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx := within(t, patience)
		for name, many := range map[string]claimant{
			"readers":   readerOf(t, c, prefix(t)+"readers"),
			"semaphore": semaphoreOf(3, 1)(t, c, prefix(t)+"semaphore"),
		} {
			require.Zero(t, many.Token(), name)
			require.ErrorIs(t, context.Cause(many.Context()), etcd.ErrNotHeld, name)
			require.ErrorIs(t, many.release(ctx), etcd.ErrNotHeld, name)
			for range 2 {
				require.NoError(t, many.take(ctx), name)
			}
			require.True(t, many.tries(t, ctx), name)
			require.EqualValues(t, 3, queue(t, c, many.Name()), name)
			oldest, held, guarded := many.Token(), many.Context(), many.Guard(ctx)
			require.Positive(t, oldest, name)
			for range 2 {
				require.NoError(t, many.release(guarded), name)
				require.NoError(t, held.Err(), name)
				require.Equal(t, oldest, many.Token(), "the newest is given back first")
				require.NoError(t, c.Put(guarded, prefix(t)+"data", nil), name)
			}
			condition := many.Held()
			require.NoError(t, many.release(guarded), name)
			require.Equal(t, context.Canceled, context.Cause(held), name)
			err := c.Put(guarded, prefix(t)+"data", nil)
			require.ErrorIs(t, err, etcd.ErrLockLost, name)
			require.False(t, etcd.MaybeApplied(err), name)
			for _, cond := range []etcd.Condition{condition, many.Held()} {
				res, err := c.Txn().If(cond).Commit(ctx)
				require.NoError(t, err, name)
				require.False(t, res.Succeeded, name)
			}
			require.ErrorIs(t, many.release(ctx), etcd.ErrNotHeld, name)
			require.Zero(t, many.Token(), name)
			require.Zero(t, queue(t, c, many.Name()), name)
		}
	})
}

func TestClaimsTakeOneRequestForEachStep(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		srv, o := observedServer(t)
		c := client(t, config(srv).WithTimeout(busyTimeout))
		ctx, one := within(t, patience), []string{"Txn"}
		other := kind.against(t, c, prefix(t)+"name", etcd.WithSession(newSession(t, c)))
		var own claimant
		require.Empty(t, o.during(func() { own = kind.of(t, c, prefix(t)+"name") }))
		taking := func() { require.NoError(t, own.take(ctx)) }
		releasing := func() { require.NoError(t, own.release(ctx)) }
		trying := func(want bool) func() {
			return func() { require.Equal(t, want, own.tries(t, ctx)) }
		}
		require.Equal(t, []string{"LeaseGrant", "Txn"}, lockRequests(o, taking))
		for range 2 { // the lease is kept
			require.Equal(t, one, lockRequests(o, releasing))
			require.Equal(t, one, lockRequests(o, trying(true)))
			require.Equal(t, one, lockRequests(o, releasing))
			require.Equal(t, one, lockRequests(o, taking))
		}
		require.NoError(t, own.release(ctx))
		require.Equal(t, one, lockRequests(o, func() { require.NoError(t, other.take(ctx)) }), "on a session")
		require.Equal(t, one, lockRequests(o, trying(false)))
		require.EqualValues(t, 1, queue(t, c, own.Name()), "the one that did not get it has left something behind")
		require.Equal(t, one, lockRequests(o, func() { require.NoError(t, other.release(ctx)) }))
	})
}

func TestTriedClaimsWaitAsLongAsTheyMay(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		c := client(t, config(server(t)))
		name, ctx := prefix(t)+"name", within(t, patience)
		other := kind.against(t, c, name)
		require.NoError(t, other.take(ctx))
		const wait = 100 * time.Millisecond
		brief := kind.of(t, c, name, etcd.WithTryWait(wait))
		began := time.Now()
		require.False(t, brief.tries(t, ctx))
		require.GreaterOrEqual(t, time.Since(began), wait)
		require.EqualValues(t, 1, queue(t, c, name))

		patient := kind.of(t, c, name, etcd.WithTryWait(patience))
		got := make(chan bool, 1)
		go func() {
			taken, err := patient.try(ctx)
			got <- taken && err == nil
		}()
		queues(t, c, name, 2)
		require.NoError(t, other.release(ctx))
		require.True(t, next(t, got))
	})
}

func TestWaitingClaimsEndWithTheirReason(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		srv := server(t)
		c := client(t, config(srv))
		name, ctx := prefix(t)+"name", within(t, patience)
		other := kind.against(t, c, name)
		require.NoError(t, other.take(ctx))

		cancelled, cancel := context.WithCancel(ctx)
		told, inQueue := queueingClient(t, config(srv))
		waiter := kind.of(t, told, name)
		waits := waiter.taking(t, cancelled, c, 2)
		next(t, inQueue)
		cancel()
		err := next(t, waits)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, etcd.ErrLocked)
		require.EqualValues(t, 1, queue(t, c, name), "nothing is left behind")

		closed := kind.of(t, c, name)
		waits = closed.taking(t, ctx, c, 2)
		require.NoError(t, closed.Close())
		require.ErrorIs(t, next(t, waits), etcd.ErrClosed)
		queues(t, c, name, 1)
		require.ErrorIs(t, closed.take(ctx), etcd.ErrClosed)
		require.ErrorIs(t, second(closed.try(ctx)), etcd.ErrClosed)
		require.ErrorIs(t, closed.release(ctx), etcd.ErrNotHeld)

		s := newSession(t, c)
		waits = kind.of(t, c, name, etcd.WithSession(s)).taking(t, ctx, c, 2)
		require.NoError(t, s.Close(ctx))
		err = next(t, waits)
		require.ErrorIs(t, err, etcd.ErrLockLost)
		require.ErrorIs(t, err, etcd.ErrClosed)
		queues(t, c, name, 1)

		own, err := etcd.NewClient(config(srv))
		require.NoError(t, err)
		waits = kind.of(t, own, name, etcd.WithLockTTL(time.Second)).taking(t, ctx, c, 2)
		require.NoError(t, own.Close())
		require.ErrorIs(t, next(t, waits), etcd.ErrClosed)
		queues(t, c, name, 1)

		require.NoError(t, other.release(ctx))
		require.True(t, waiter.tries(t, ctx))
	})
}

func TestCancelledWaiterLetsTheNextOneGo(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		srv := server(t)
		c := client(t, config(srv))
		told, inQueue := queueingClient(t, config(srv))
		name, ctx := prefix(t)+"name", within(t, patience)
		first, between, last := kind.against(t, c, name), kind.of(t, told, name), kind.against(t, c, name)
		require.NoError(t, first.take(ctx))
		cancelled, cancel := context.WithCancel(ctx)
		waits := between.taking(t, cancelled, c, 2)
		after := last.taking(t, ctx, c, 3)
		next(t, inQueue)
		cancel()
		require.ErrorIs(t, next(t, waits), etcd.ErrLocked)
		require.NoError(t, first.release(ctx))
		require.NoError(t, next(t, after))
	})
}

func TestWaiterIsToldThatItsOwnKeyIsGone(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		c := client(t, config(server(t)))
		name, ctx := prefix(t)+"name", within(t, 2*patience)
		first, waiter := kind.against(t, c, name), kind.of(t, c, name)
		require.NoError(t, first.take(ctx))
		for want, spoil := range map[error]func(key string) error{
			etcd.ErrLockKeyDeleted:  func(key string) error { return second(c.Raw().Delete(ctx, key)) },
			etcd.ErrLockKeyReplaced: func(key string) error { return second(c.Raw().Put(ctx, key, "")) },
		} {
			waits := waiter.taking(t, ctx, c, 2)
			pace, began := keepPace(t), time.Now()
			require.NoError(t, spoil(youngestKey(t, c, name)))
			err := next(t, waits)
			require.ErrorIs(t, err, etcd.ErrLockLost)
			require.ErrorIs(t, err, want)
			require.Less(t, time.Since(began), pace.allow(5*time.Second), "not by looking again")
			queues(t, c, name, 1)
		}
		require.NoError(t, first.Context().Err())
	})
}

// youngestKey returns the key of the last claim to a name.
func youngestKey(t testing.TB, c *etcd.Client, name string) string {
	t.Helper()
	resp, err := c.Raw().Get(t.Context(), name+"\x00", clientv3.WithLastCreate()...)
	require.NoError(t, err)
	require.Len(t, resp.Kvs, 1)
	return string(resp.Kvs[0].Key)
}

func TestLossOfOneClaimIsTold(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		c := client(t, config(server(t)))
		ctx := within(t, 2*patience)
		for how, lose := range map[string]func(holder claimant) error{
			"key deleted":   func(holder claimant) error { return second(c.Raw().Delete(ctx, ownKey(t, c, holder.Name()))) },
			"key replaced":  func(holder claimant) error { return second(c.Raw().Put(ctx, ownKey(t, c, holder.Name()), "")) },
			"lease revoked": func(holder claimant) error { return c.RevokeLease(ctx, leaseOf(t, c, holder.Name())) },
		} {
			own := kind.of(t, c, prefix(t)+how, etcd.WithLockTTL(time.Second))
			require.NoError(t, own.take(ctx), how)
			held, guarded := own.Context(), own.Guard(ctx)
			require.NoError(t, lose(own), how)
			closes(t, held.Done())
			closes(t, guarded.Done())
			require.ErrorIs(t, context.Cause(held), etcd.ErrLockLost, how)
			require.ErrorIs(t, context.Cause(guarded), etcd.ErrLockLost, how)
			require.ErrorIs(t, c.Put(guarded, prefix(t)+"data", nil), etcd.ErrLockLost, how)
			require.ErrorIs(t, own.release(guarded), etcd.ErrLockLost, how)
			require.ErrorIs(t, own.release(ctx), etcd.ErrNotHeld, how)
			queues(t, c, own.Name(), 0)
			require.NoError(t, own.take(ctx), how)
			require.NoError(t, own.Context().Err(), how)
			require.NoError(t, own.release(ctx), how)
		}
	})
}

// leaseOf returns the lease of the only claim to a name.
func leaseOf(t testing.TB, c *etcd.Client, name string) etcd.LeaseID {
	t.Helper()
	resp, err := c.Raw().Get(t.Context(), ownKey(t, c, name))
	require.NoError(t, err)
	require.Len(t, resp.Kvs, 1)
	return etcd.LeaseID(resp.Kvs[0].Lease)
}

func TestLostClaimIsGivenBackFirst(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	for name, many := range map[string]claimant{
		"readers":   readerOf(t, c, prefix(t)+"readers", etcd.WithLockTTL(time.Second)),
		"semaphore": semaphoreOf(3, 1)(t, c, prefix(t)+"semaphore", etcd.WithLockTTL(time.Second)),
	} {
		require.NoError(t, many.take(ctx), name)
		lost, over := many.Context(), many.Guard(ctx)
		require.NoError(t, c.RevokeLease(ctx, leaseOf(t, c, many.Name())), name)
		closes(t, lost.Done())
		require.NoError(t, many.take(ctx), "its other claims don't depend on it")
		require.NoError(t, many.take(ctx), name)
		standing, guarded := many.Context(), many.Guard(ctx)
		require.NoError(t, standing.Err(), "of a claim that stands")
		require.ErrorIs(t, many.release(guarded), etcd.ErrLockLost, name)
		require.NoError(t, standing.Err(), name)
		require.NoError(t, c.Put(guarded, prefix(t)+"data", nil), name)
		require.Error(t, over.Err(), name)
		require.NoError(t, many.release(over), "whichever claim its context was guarded by")
		require.NoError(t, standing.Err(), name)
		require.NoError(t, many.release(guarded), name)
		require.ErrorIs(t, many.release(ctx), etcd.ErrNotHeld, name)
	}
}

func TestCloseGivesBackEveryClaim(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	s := newSession(t, c)
	for name, opts := range map[string][]etcd.SeatOption{"leases": nil, "session": {etcd.WithSession(s)}} {
		for kind, many := range map[string]claimant{
			"readers":   readerOf(t, c, prefix(t)+name+"readers", opts...),
			"semaphore": semaphoreOf(5, 1)(t, c, prefix(t)+name+"semaphore", opts...),
		} {
			for range 5 {
				require.NoError(t, many.take(ctx), kind)
			}
			held := many.Context()
			require.NoError(t, many.Close(), kind)
			require.NoError(t, many.Close(), kind)
			require.Equal(t, context.Canceled, context.Cause(held), kind)
			require.Zero(t, queue(t, c, many.Name()), kind)
			require.ErrorIs(t, many.release(ctx), etcd.ErrNotHeld, kind)
			require.ErrorIs(t, context.Cause(many.Context()), etcd.ErrNotHeld, kind)
			err := many.take(ctx)
			require.ErrorIs(t, err, etcd.ErrClosed, kind)
			require.NotContains(t, err.Error(), "client", kind)
		}
	}
	require.NoError(t, s.Context().Err())
}

func TestClaimsOnASessionAreLostWithIt(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		srv, o := observedServer(t)
		c := client(t, config(srv))
		ctx, s := within(t, patience), newSession(t, c)
		own, other := kind.of(t, c, prefix(t)+"name", etcd.WithSession(s)), kind.against(t, c, prefix(t)+"name", etcd.WithSession(s))
		require.NotContains(t, o.during(func() {
			require.NoError(t, own.take(ctx))
			require.False(t, other.tries(t, ctx), "on the same session")
			require.NoError(t, own.release(ctx))
			require.NoError(t, other.take(ctx))
			require.NoError(t, other.release(ctx))
			require.NoError(t, own.take(ctx))
		}), "LeaseGrant")
		held := own.Context()
		require.NoError(t, s.Close(ctx))
		closes(t, held.Done())
		require.ErrorIs(t, context.Cause(held), etcd.ErrLockLost)
		require.ErrorIs(t, context.Cause(held), etcd.ErrClosed)
		require.ErrorIs(t, own.release(ctx), etcd.ErrLockLost)
		require.ErrorIs(t, own.take(ctx), etcd.ErrClosed)
		require.ErrorIs(t, second(other.try(ctx)), etcd.ErrClosed)
	})
}

func TestKindsOfOneNameDoNotExclude(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		name, ctx := prefix(t)+"name", within(t, patience)
		lock, rw, sem := newLock(t, c, name), writerOf(t, c, name), semaphoreOf(1, 1)(t, c, name)
		locked, err := lock.TryLock(ctx)
		require.NoError(t, err)
		require.True(t, locked)
		require.True(t, rw.tries(t, ctx))
		require.True(t, sem.tries(t, ctx))
		require.NoError(t, lock.Unlock(ctx))
		locked, err = lock.IsLocked(ctx)
		require.NoError(t, err)
		require.False(t, locked, "by the others")

		require.NoError(t, lock.Lock(ctx))
		keys, err := c.List(ctx, prefix(t))
		require.NoError(t, err)
		require.Empty(t, keys, "none of them shows")
		kvs, err := c.GetPrefix(ctx, prefix(t), 0)
		require.NoError(t, err)
		require.Empty(t, kvs)
	})
}

func TestBadClaimsAreRefusedUnsent(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		var none context.Context
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		s := newSession(t, c)
		for name, tc := range map[string]struct {
			want error
			call func() error
		}{
			"empty name":           {etcd.ErrEmptyKey, func() error { return second(c.NewRWLock("")) }},
			"NUL":                  {etcd.ErrInvalidArgument, func() error { return second(c.NewRWLock("a\x00b")) }},
			"long name":            {etcd.ErrTooLarge, func() error { return second(c.NewRWLock(longKey)) }},
			"TTL 0":                {etcd.ErrInvalidTTL, func() error { return second(c.NewRWLock("l", etcd.WithLockTTL(0))) }},
			"nil option":           {etcd.ErrInvalidArgument, func() error { return second(c.NewRWLock("l", nil)) }},
			"nil session":          {etcd.ErrInvalidArgument, func() error { return second(c.NewRWLock("l", etcd.WithSession(nil))) }},
			"two TTLs":             {etcd.ErrInvalidArgument, func() error { return second(c.NewRWLock("l", etcd.WithSession(s), etcd.WithLockTTL(time.Minute))) }},
			"their keys":           {etcd.ErrInvalidArgument, func() error { return second(c.NewRWLock("l", etcd.WithConcurrencyKeys())) }},
			"both keys":            {etcd.ErrInvalidArgument, func() error { return second(c.NewRWLock("l", etcd.WithBothKeys())) }},
			"negative wait":        {etcd.ErrInvalidArgument, func() error { return second(c.NewRWLock("l", etcd.WithTryWait(-1))) }},
			"semaphore empty name": {etcd.ErrEmptyKey, func() error { return second(c.NewSemaphore("", 1)) }},
			"semaphore NUL":        {etcd.ErrInvalidArgument, func() error { return second(c.NewSemaphore("a\x00b", 1)) }},
			"semaphore long name":  {etcd.ErrTooLarge, func() error { return second(c.NewSemaphore(longKey, 1)) }},
			"size 0":               {etcd.ErrInvalidArgument, func() error { return second(c.NewSemaphore("s", 0)) }},
			"size -1":              {etcd.ErrInvalidArgument, func() error { return second(c.NewSemaphore("s", -1)) }},
			"weight 0":             {etcd.ErrInvalidArgument, func() error { return second(c.NewSemaphore("s", 1, etcd.WithWeight(0))) }},
			"weight -1":            {etcd.ErrInvalidArgument, func() error { return second(c.NewSemaphore("s", 1, etcd.WithWeight(-1))) }},
			"weight over size":     {etcd.ErrInvalidArgument, func() error { return second(c.NewSemaphore("s", 2, etcd.WithWeight(3))) }},
			"semaphore TTL -1":     {etcd.ErrInvalidTTL, func() error { return second(c.NewSemaphore("s", 1, etcd.WithLockTTL(-1))) }},
			"semaphore nil option": {etcd.ErrInvalidArgument, func() error { return second(c.NewSemaphore("s", 1, nil)) }},
		} {
			requireRefused(t, o, name, tc.want, tc.call)
		}
		for name, kind := range claimKinds {
			own := kind.of(t, c, prefix(t)+name)
			requireRefused(t, o, name, etcd.ErrNilContext, func() error { return own.take(none) })
			requireRefused(t, o, name, etcd.ErrNilContext, func() error { return second(own.try(none)) })
			requireRefused(t, o, name, etcd.ErrNilContext, func() error { return own.release(none) })
			requireRefused(t, o, name, etcd.ErrNotHeld, func() error { return own.release(t.Context()) })
			require.Empty(t, o.during(func() {
				err := own.take(ended)
				require.ErrorIs(t, err, context.Canceled)
				require.NotErrorIs(t, err, etcd.ErrLocked)
				require.ErrorIs(t, second(own.try(ended)), context.Canceled)
			}))
			require.Nil(t, own.Guard(none))
		}
		require.NoError(t, s.Close(t.Context()))
		requireRefused(t, o, "closed session", etcd.ErrClosed, func() error { return second(c.NewSemaphore("s", 1, etcd.WithSession(s))) })
	})
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	require.ErrorIs(t, second(other.NewRWLock("l", etcd.WithSession(newSession(t, c)))), etcd.ErrInvalidArgument)
}

func TestLogSaysWhoWaitsAndWhatIsLost(t *testing.T) {
	t.Parallel()
	srv, log := server(t), &lockedBuffer{}
	direct := client(t, config(srv))
	told := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := client(t, config(srv).WithLogger(told))
	ctx := within(t, patience)
	for name, kind := range claimKinds {
		name = prefix(t) + strings.ReplaceAll(name, " ", "-")
		first, own := kind.against(t, direct, name), kind.of(t, c, name)
		require.NoError(t, first.take(ctx))
		waits := own.taking(t, ctx, direct, 2)
		require.NoError(t, first.release(ctx))
		require.NoError(t, next(t, waits))
		held := own.Context()
		require.NoError(t, second(direct.Raw().Delete(ctx, ownKey(t, direct, name))))
		closes(t, held.Done())
		require.Eventually(t, func() bool {
			return strings.Contains(log.String(), `level=WARN msg="etcd: a claim is lost"`+" reason=\"the key of the lock was deleted\" name="+name)
		},
			patience, 10*time.Millisecond)
		require.Contains(t, log.String(), `level=DEBUG msg="etcd: waits for a lock" name=`+name)
		require.Contains(t, log.String(), `level=DEBUG msg="etcd: has waited for a lock" for=`)
		require.ErrorIs(t, own.release(ctx), etcd.ErrLockLost)
	}
	require.NoError(t, newRWLock(t, c, prefix(t)+"quiet").Lock(ctx))
	require.NotContains(t, log.String(), "quiet", "a lock that is free, and released")
}

func TestHooksSeeEveryStepOfAClaim(t *testing.T) {
	t.Parallel()
	ops := make(chan string, 100)
	c := client(t, config(server(t)).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if req.Op != "check locks" && req.Key != "" {
			ops <- req.Op + " " + req.Key
		}
	}}))
	ctx, s := within(t, patience), newSession(t, c)
	l, sem := newRWLock(t, c, "rw", etcd.WithSession(s)), newSemaphore(t, c, "sem", 1, etcd.WithSession(s))
	for _, step := range []struct {
		want string
		call func(context.Context) error
	}{
		{"read lock rw", l.RLock},
		{"read unlock rw", l.RUnlock},
		{"try read lock rw", func(ctx context.Context) error { return second(l.TryRLock(ctx)) }},
		{"read unlock rw", l.RUnlock},
		{"lock rw", l.Lock},
		{"unlock rw", l.Unlock},
		{"try lock rw", func(ctx context.Context) error { return second(l.TryLock(ctx)) }},
		{"unlock rw", l.Unlock},
		{"acquire sem", sem.Acquire},
		{"release sem", sem.Release},
		{"try acquire sem", func(ctx context.Context) error { return second(sem.TryAcquire(ctx)) }},
		{"release sem", sem.Release},
	} {
		require.NoError(t, step.call(ctx))
		require.Equal(t, step.want, next(t, ops))
	}
}

// The server reads over each key that was ever in a queue until it compacts its history.
func TestClaimsOnASessionUseTheirKeysAgain(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, s, name := within(t, patience), newSession(t, c), prefix(t)+"sem"
	sem := newSemaphore(t, c, name, 2, etcd.WithSession(s))
	require.Len(t, keysPut(t, ctx, c, name, func() {
		for range 20 {
			for range 2 {
				require.NoError(t, sem.Acquire(ctx))
			}
			for range 2 {
				require.NoError(t, sem.Release(ctx))
			}
		}
	}), 2)
}

// A key in doubt is looked for as long as the session lives.
func TestClaimsInDoubtOnASessionShareAKey(t *testing.T) {
	t.Parallel()
	eachClaimKind(t, func(t *testing.T, kind claimKind) {
		srv, f := faultyServer(t)
		c := client(t, config(srv))
		ctx, s := within(t, patience), newSession(t, c)
		own := kind.of(t, c, prefix(t)+"name", etcd.WithSession(s))
		require.Len(t, keysPut(t, ctx, c, own.Name(), func() {
			for range 10 {
				lost := &script{answer: status.Error(codes.Unknown, "lost"), times: 1, writesOnly: true}
				require.True(t, etcd.MaybeApplied(own.take(f.follow(ctx, lost))))
			}
			require.NoError(t, own.take(ctx))
			require.NoError(t, own.release(ctx))
		}), 1)
	})
}

// keysPut returns the keys under a prefix that are put or deleted while f runs.
func keysPut(t *testing.T, ctx context.Context, c *etcd.Client, under string, f func()) map[string]bool {
	t.Helper()
	begin, err := c.Revision(ctx)
	require.NoError(t, err)
	f()
	end, err := c.Revision(ctx)
	require.NoError(t, err)
	keys := map[string]bool{}
	history := c.Raw().Watch(ctx, under, clientv3.WithPrefix(), clientv3.WithRev(begin+1))
	for seen := begin; seen < end; {
		resp := <-history
		require.NoError(t, resp.Err())
		for _, ev := range resp.Events {
			keys[string(ev.Kv.Key)], seen = true, ev.Kv.ModRevision
		}
	}
	return keys
}
