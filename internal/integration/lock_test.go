package integration

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestLockExcludesEveryOther(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		name, ctx := prefix(t)+"lock", within(t, patience)
		first, second := newLock(t, c, name), newLock(t, c, name)
		require.Equal(t, name, first.Name())
		require.Zero(t, first.Token())
		locked, err := first.IsLocked(ctx)
		require.NoError(t, err)
		require.False(t, locked)

		require.NoError(t, first.Lock(ctx))
		require.NoError(t, first.Context().Err())
		for _, other := range []*etcd.Lock{first, second} {
			acquired, err := other.TryLock(ctx)
			require.NoError(t, err)
			require.False(t, acquired)
		}
		locked, err = second.IsLocked(ctx)
		require.NoError(t, err)
		require.True(t, locked)
		require.Zero(t, second.Token())
		require.ErrorIs(t, context.Cause(second.Context()), etcd.ErrNotHeld)

		token, held := first.Token(), first.Context()
		require.Positive(t, token)
		require.NoError(t, first.Unlock(ctx))
		require.Equal(t, context.Canceled, context.Cause(held))
		require.ErrorIs(t, context.Cause(first.Context()), etcd.ErrNotHeld)
		require.ErrorIs(t, first.Unlock(ctx), etcd.ErrNotHeld)

		acquired, err := second.TryLock(ctx)
		require.NoError(t, err)
		require.True(t, acquired)
		require.Greater(t, second.Token(), token)
		require.NoError(t, second.Close())
		require.ErrorIs(t, second.Unlock(ctx), etcd.ErrNotHeld)
		require.NoError(t, first.Lock(ctx))
		require.NoError(t, first.Unlock(ctx))
		require.Zero(t, queue(t, c, name))
	})
}

func TestLockTakesOneRequestForEachStep(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	name, ctx := prefix(t)+"lock", within(t, patience)
	holder, other := newLock(t, c, name), newLock(t, c, name)
	try := func(l *etcd.Lock, want bool) func() {
		return func() {
			acquired, err := l.TryLock(ctx)
			require.NoError(t, err)
			require.Equal(t, want, acquired)
		}
	}
	one := []string{"Txn"}
	require.Equal(t, one, o.during(try(holder, true)))
	require.Equal(t, one, o.during(try(other, false)))
	require.EqualValues(t, 1, queue(t, c, name), "the one that did not get it has left something behind")
	require.Empty(t, o.during(try(holder, false)))
	require.Equal(t, one, o.during(func() { require.NoError(t, holder.Unlock(ctx)) }))
	require.Equal(t, one, o.during(func() { require.NoError(t, holder.Lock(ctx)) }))
	require.Equal(t, []string{"LeaseRevoke"}, o.during(func() { require.NoError(t, holder.Close()) }))
	require.Equal(t, []string{"LeaseGrant"}, o.during(func() { newLock(t, c, name) }))
}

func TestTryLockWaitsAsLongAsItMay(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"lock", within(t, patience)
	holder := newLock(t, c, name)
	require.NoError(t, holder.Lock(ctx))

	const wait = 100 * time.Millisecond
	brief := newLock(t, c, name, etcd.WithTryWait(wait))
	for range 2 {
		pace, began := keepPace(t), time.Now()
		acquired, err := brief.TryLock(ctx)
		require.NoError(t, err)
		require.False(t, acquired)
		require.GreaterOrEqual(t, time.Since(began), wait)
		require.Less(t, time.Since(began), pace.allow(wait+2*time.Second))
		queues(t, c, name, 1) // a withdrawal that takes long is left to the lease
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	acquired, err := brief.TryLock(ended)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, acquired)

	patient := newLock(t, c, name, etcd.WithTryWait(patience))
	got := make(chan bool, 1)
	go func() {
		acquired, err := patient.TryLock(ctx)
		got <- acquired && err == nil
	}()
	queues(t, c, name, 2)
	require.NoError(t, holder.Unlock(ctx))
	require.True(t, next(t, got))

	// The same between the goroutines that share a Lock.
	acquired, err = holder.TryLock(ctx)
	require.NoError(t, err)
	require.False(t, acquired)
	shared := newLock(t, c, prefix(t)+"shared", etcd.WithTryWait(wait))
	require.NoError(t, shared.Lock(ctx))
	acquired, err = shared.TryLock(ctx)
	require.NoError(t, err)
	require.False(t, acquired)
}

func TestWaitersGetTheLockInTheirOrder(t *testing.T) {
	t.Parallel()
	srv := server(t)
	clients := []*etcd.Client{client(t, config(srv)), client(t, config(srv)), client(t, config(srv)), client(t, config(srv))}
	name, ctx := prefix(t)+"lock", within(t, patience)
	holder := newLock(t, clients[0], name)
	require.NoError(t, holder.Lock(ctx))

	const waiters = 16
	order := make(chan int, waiters)
	tokens := make(chan int64, waiters)
	var wg sync.WaitGroup
	for i := range waiters {
		l := newLock(t, clients[i%len(clients)], name)
		wg.Go(func() {
			if err := l.Lock(ctx); err != nil {
				t.Errorf("waiter %d: %v", i, err)
				return
			}
			order <- i
			tokens <- l.Token()
			if err := l.Unlock(ctx); err != nil {
				t.Errorf("waiter %d: %v", i, err)
			}
		})
		queues(t, clients[0], name, int64(i)+2)
	}
	last := holder.Token()
	require.NoError(t, holder.Unlock(ctx))
	wg.Wait()
	for i := range waiters {
		require.Equal(t, i, next(t, order))
		token := next(t, tokens)
		require.Greater(t, token, last)
		last = token
	}
	require.Zero(t, queue(t, clients[0], name))
}

func TestWaiterThatIsGoneIsSkipped(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv))
	name, ctx := prefix(t)+"lock", within(t, patience)
	holder, last := newLock(t, c, name), newLock(t, c, name)
	require.NoError(t, holder.Lock(ctx))

	results := make(chan error, 3)
	wait := func(l *etcd.Lock, ctx context.Context) {
		n := queue(t, c, name)
		go func() { results <- l.Lock(ctx) }()
		queues(t, c, name, n+1)
	}
	// One whose process dies: its claim stays until its lease ends.
	dying, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	dead, err := dying.NewLock(name, etcd.WithLockTTL(4*time.Second))
	require.NoError(t, err)
	wait(dead, ctx)
	// One whose caller gives up, one that is closed, and one that stays.
	givingUp, giveUp := context.WithCancel(ctx)
	wait(newLock(t, c, name), givingUp)
	closed := newLock(t, c, name)
	wait(closed, ctx)
	wait(last, ctx)

	require.NoError(t, dying.Close())
	require.ErrorIs(t, next(t, results), etcd.ErrClosed)
	giveUp()
	err = next(t, results)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, etcd.ErrLocked)
	require.NoError(t, closed.Close())
	require.ErrorIs(t, next(t, results), etcd.ErrClosed)
	require.ErrorIs(t, closed.Lock(ctx), etcd.ErrClosed)

	require.NoError(t, holder.Unlock(ctx))
	require.NoError(t, next(t, results))
	require.Positive(t, last.Token())
	require.NoError(t, dead.Close())
}

func TestLockProtectsACounter(t *testing.T) {
	t.Parallel()
	srv := server(t)
	clients := []*etcd.Client{client(t, config(srv)), client(t, config(srv))}
	name, counter, ctx := prefix(t)+"lock", prefix(t)+"counter", within(t, 2*patience)
	require.NoError(t, clients[0].Put(ctx, counter, []byte("0")))
	shared := newLock(t, clients[0], name)

	const workers, rounds = 8, 50
	here := 0 // for the race detector: locks of one process are in order, too
	var wg sync.WaitGroup
	for i := range workers {
		c, l := clients[i%2], shared
		if i >= 3 { // three workers share a Lock, the others have their own
			l = newLock(t, c, name)
		}
		wg.Go(func() {
			for range rounds {
				if err := incrementUnder(ctx, c, l, counter, &here); err != nil {
					t.Errorf("worker %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	value, err := clients[0].Get(ctx, counter)
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(workers*rounds), string(value))
	require.Equal(t, workers*rounds, here)
}

// incrementUnder reads and writes a counter, with nothing but the lock to hold others
// off.
func incrementUnder(ctx context.Context, c *etcd.Client, l *etcd.Lock, key string, here *int) error {
	if err := l.Lock(ctx); err != nil {
		return err
	}
	value, err := c.Get(ctx, key)
	if err == nil {
		n, _ := strconv.Atoi(string(value))
		err = c.Put(ctx, key, []byte(strconv.Itoa(n+1)))
	}
	*here++
	return errors.Join(err, l.Unlock(ctx))
}

func TestLocksOfDifferentNamesDoNotMeet(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	for _, name := range []string{"a", "a/b", "a/", "ab", "ä ☃", "\xff\xfe", strings.Repeat("long", 4000)} {
		l := newLock(t, c, p+name)
		acquired, err := l.TryLock(ctx)
		require.NoError(t, err)
		require.True(t, acquired, name)
		require.NoError(t, l.Context().Err())
	}
	require.NoError(t, c.Put(ctx, p+"key", nil))
	acquired, err := newLock(t, c, p+"key").TryLock(ctx)
	require.NoError(t, err)
	require.True(t, acquired, "a key of the same name")
}

func TestBadLockArgumentsAreRefusedUnsent(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	closed, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	orphan, err := closed.NewLock("orphan")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	lock := newLock(t, c, "good")
	var none context.Context

	require.Empty(t, o.during(func() {
		for name, want := range map[string]error{
			"":                           etcd.ErrEmptyKey,
			"a\x00b":                     etcd.ErrInvalidArgument,
			strings.Repeat("a", 1<<16-1): etcd.ErrTooLarge,
		} {
			_, err := c.NewLock(name)
			require.ErrorIs(t, err, want)
		}
		_, err := c.NewLock("a", etcd.WithTryWait(-1))
		require.ErrorIs(t, err, etcd.ErrInvalidArgument)
		_, err = closed.NewLock("a")
		require.ErrorIs(t, err, etcd.ErrClosed)

		require.ErrorIs(t, lock.Lock(none), etcd.ErrNilContext)
		_, err = lock.TryLock(none)
		require.ErrorIs(t, err, etcd.ErrNilContext)
		require.ErrorIs(t, lock.Unlock(none), etcd.ErrNilContext)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, lock.Lock(ended), context.Canceled)
		require.NotErrorIs(t, lock.Lock(ended), etcd.ErrLocked)
		require.ErrorIs(t, c.WithLock(none, "a", nil), etcd.ErrNilContext)
		require.ErrorIs(t, c.WithLock(t.Context(), "a", nil), etcd.ErrInvalidArgument)

		require.ErrorIs(t, orphan.Lock(t.Context()), etcd.ErrClosed)
		require.ErrorIs(t, orphan.Unlock(t.Context()), etcd.ErrNotHeld)
		require.NoError(t, orphan.Close())
	}))
	require.NoError(t, lock.Close())
	require.NoError(t, lock.Close())
	require.ErrorIs(t, lock.Lock(t.Context()), etcd.ErrClosed)
	_, err = lock.TryLock(t.Context())
	require.ErrorIs(t, err, etcd.ErrClosed)
}

func TestClosedClientEndsItsLocks(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	name, ctx := prefix(t)+"lock", within(t, patience)
	holder, err := c.NewLock(name, etcd.WithLockTTL(4*time.Second))
	require.NoError(t, err)
	require.NoError(t, holder.Lock(ctx))
	waiter, err := c.NewLock(name, etcd.WithLockTTL(4*time.Second))
	require.NoError(t, err)
	results := make(chan error, 2)
	observer := client(t, config(srv))
	go func() { results <- waiter.Lock(ctx) }()
	queues(t, observer, name, 2)
	go func() { results <- holder.Lock(ctx) }() // waits for its own turn

	require.NoError(t, c.Close())
	require.ErrorIs(t, next(t, results), etcd.ErrClosed)
	require.ErrorIs(t, next(t, results), etcd.ErrClosed)
	closes(t, holder.Context().Done())
	require.ErrorIs(t, context.Cause(holder.Context()), etcd.ErrLockLost)
	require.ErrorIs(t, holder.Unlock(ctx), etcd.ErrLockLost)
	require.NoError(t, holder.Close())
	require.NoError(t, waiter.Close())
	// The leases end by themselves.
	require.NoError(t, newLock(t, observer, name).Lock(ctx))
}

func TestWithLockHoldsTheLockWhileItRuns(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"lock", within(t, patience)
	other := newLock(t, c, name)
	free := func() bool {
		acquired, err := other.TryLock(ctx)
		require.NoError(t, err)
		if acquired {
			require.NoError(t, other.Unlock(ctx))
		}
		return acquired
	}

	require.NoError(t, c.WithLock(ctx, name, func(ctx context.Context) error {
		require.NoError(t, ctx.Err())
		require.False(t, free())
		return nil
	}))
	require.True(t, free())

	wrong := errors.New("wrong")
	require.ErrorIs(t, c.WithLock(ctx, name, func(context.Context) error { return wrong }), wrong)
	require.True(t, free())

	require.Panics(t, func() {
		_ = c.WithLock(ctx, name, func(context.Context) error { panic("bug") })
	})
	require.True(t, free())

	inner, cancel := context.WithCancel(ctx)
	require.ErrorIs(t, c.WithLock(inner, name, func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}), context.Canceled)
	require.True(t, free())
	require.ErrorIs(t, c.WithLock(inner, name, func(context.Context) error { panic("not held") }), context.Canceled)

	require.NoError(t, other.Lock(ctx))
	err := failsWith(t, etcd.ErrLocked, func() error {
		brief := within(t, time.Second) // enough to get into the queue
		return c.WithLock(brief, name, func(context.Context) error { panic("not held") })
	})
	require.ErrorIs(t, err, etcd.ErrTimeout)
	require.NoError(t, other.Unlock(ctx))
	queues(t, c, name, 0)
}
