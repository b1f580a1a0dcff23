package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// Lock is a mutual exclusion between processes, and between the goroutines of one
// process. Waiters get it in the order in which they came. Make one with [Client.NewLock]
// and end it with [Lock.Close].
//
// A Lock is safe for concurrent use. It is not reentrant: a second Lock call waits for
// the first one's Unlock, whichever goroutine makes it.
//
// A lock excludes others only while its lease and its key exist. Work that it protects
// should use a context of [Lock.Guard], as [Client.WithLock] does: it ends in time when the
// lease can no longer be relied upon, and no write made with it is applied once the lock is
// gone. [Lock.Held] is the condition alone; other stores can refuse a [Lock.Token] older than
// one they have seen.
//
// The key of a lock lies under its name. Whoever deletes it, for example by
// [Client.DeletePrefix] over it, lets the next waiter have the lock at once; the holder's
// Context ends within about two seconds, or an eighth of the time to live if that is
// less, and its Held fails at once. So give locks a prefix of their own, apart from data
// that is deleted or restored by prefix.
//
// Lists, scans, typed values, exports and the calls of encryption skip the claims of
// locks: keys without a value that end with a NUL byte and a lease in hexadecimal, and
// that are attached to that lease. What the server counts or deletes by prefix
// ([Client.Count], DeletePrefix), a watch of a prefix, and a keys-only read in a
// transaction treat claims like other keys. The limit of a read in a transaction counts
// them too: its result may then hold fewer key-values than there are.
type Lock struct {
	client *Client
	name   string
	prefix string
	ttl    int64
	wait   time.Duration
	place  *lockPlace // of a lock WithSession; nil for one that has its own lease

	// turn holds one value; whoever puts it in may compete for the lock. It is a channel
	// because waiters must be able to stop waiting.
	turn chan struct{}
	// closing is closed by Close.
	closing chan struct{}

	mu      sync.Mutex // guards what follows; never held over a request
	closed  bool
	session *session
	claim   *claim
}

// NewLock returns the lock of that name, not yet taken. It takes one round trip of at
// most [Config.RequestTimeout], for the lease, or none [WithSession]. Locks of different names
// never exclude each other, even if one name begins with the other. A name must not be empty or
// contain a NUL byte.
//
// The keys of a lock are its name, a NUL byte and the lease of the waiter or holder. They
// have no value, so a client without a primary key can also lock.
func (c *Client) NewLock(name string, opts ...LockOption) (*Lock, error) {
	return c.newLock(context.Background(), name, opts, c.renewals.newSession)
}

func (c *Client) newLock(ctx context.Context, name string, opts []LockOption, grant func(context.Context, int64) (*session, error)) (*Lock, error) {
	const op = "new lock"
	l := &Lock{
		client:  c,
		name:    name,
		prefix:  name + "\x00",
		turn:    make(chan struct{}, 1),
		closing: make(chan struct{}),
	}
	if name == "" {
		return nil, fail(op, name, ErrEmptyKey)
	}
	if strings.Contains(name, "\x00") {
		return nil, fail(op, name, fmt.Errorf("%w: lock name with a NUL byte", ErrInvalidArgument))
	}
	if _, err := c.stored(l.prefix + LeaseID(0).String()); err != nil {
		return nil, fail(op, name, err)
	}
	o := lockOptions{ttl: DefaultLockTTL}
	err := optionsOf(opts, &o, LockOption.applyLock)
	if err == nil {
		l.ttl, err = o.check()
	}
	if err != nil {
		return nil, fail(op, name, err)
	}
	l.wait = o.wait
	if o.session != nil {
		if err := o.session.admit(l); err != nil {
			return nil, fail(op, name, err)
		}
		return l, nil
	}
	if l.session, err = grant(ctx, l.ttl); err != nil {
		return nil, err
	}
	return l, nil
}

// Name returns the name of the lock.
func (l *Lock) Name() string { return l.name }

// Lock takes the lock, and waits for it as long as ctx allows; a ctx without a deadline
// waits forever. A free lock takes one round trip.
//
// When ctx ends, Lock returns within a tenth of a second and leaves nothing of its claim
// behind; if the server can't be reached, the claim ends with its lease at the latest.
// The error matches [ErrLocked] if another held the lock. If the lease ends during the
// wait, the place in the queue is lost with it: then the error matches [ErrLockLost], as
// it does if the lock was lost before and has not been unlocked.
//
// Lock watches the key before its own in the queue, and also reads the queue again about
// every ten seconds.
func (l *Lock) Lock(ctx context.Context) error {
	return l.lock(ctx, ctx, "lock")
}

// TryLock takes the lock if it is free and reports whether it did, in one round trip; it
// leaves nothing behind if the lock is taken. With [WithTryWait] it queues for up to that
// time, like [Lock.Lock]. For a lock that was lost and has not been unlocked it fails
// with [ErrLockLost].
func (l *Lock) TryLock(ctx context.Context) (bool, error) {
	const op = "try lock"
	if err := l.usable(ctx); err != nil {
		return false, fail(op, l.name, err)
	}
	if l.wait > 0 {
		return l.lockWithin(ctx, op)
	}
	select {
	case l.turn <- struct{}{}:
	default:
		return false, l.unreleased(op)
	}
	return l.take(func() (bool, error) { return l.tryAcquire(ctx, op) })
}

// take calls acquire to compete for the lock; the caller has the turn. It gives the turn
// back unless the lock is held then. If a hook panics in acquire, the fate of the claim
// is unknown, and its session is abandoned with it.
func (l *Lock) take(acquire func() (bool, error)) (held bool, err error) {
	returned := false
	defer func() {
		if !returned {
			l.mu.Lock()
			s := l.session
			l.mu.Unlock()
			l.giveUp(s, true)
		}
		if !held {
			<-l.turn
		}
	}()
	held, err = acquire()
	returned = true
	return held, err
}

// lockWithin is Lock bounded by WithTryWait, the end of which is not an error.
func (l *Lock) lockWithin(ctx context.Context, op string) (bool, error) {
	waiting, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	err := l.lock(ctx, waiting, op)
	switch {
	case !errors.Is(err, ErrLocked):
		return err == nil, err
	case ctx.Err() == nil:
		return false, nil
	default: // the caller's context ended, not just the wait
		return false, answered(op, l.name, errs.WithDetail(errs.OfContext(ctx), ErrLocked))
	}
}

// lock takes the lock. It waits for others while waiting lives, which ends with ctx at
// the latest, and for the server while ctx does: a slow answer doesn't mean that the lock
// is taken.
func (l *Lock) lock(ctx, waiting context.Context, op string) error {
	if err := l.usable(ctx); err != nil {
		return fail(op, l.name, err)
	}
	if err := l.unreleased(op); err != nil {
		return err
	}
	select {
	case l.turn <- struct{}{}:
	case <-waiting.Done():
		return fail(op, l.name, errs.WithDetail(errs.OfContext(waiting), ErrLocked))
	case <-l.closing:
		return fail(op, l.name, l.closedError())
	case <-l.client.rpc.Closing():
		return fail(op, l.name, l.closedError())
	}
	_, err := l.take(func() (bool, error) {
		err := l.acquire(ctx, waiting, op)
		return err == nil, err
	})
	return err
}

// Unlock releases the lock, in one round trip; ctx may be one of its own [Lock.Guard]. It
// fails with [ErrNotHeld] if the lock is
// not held, and with [ErrLockLost] if it was lost before. Whatever it returns, the lock
// is no longer held afterwards: if the server can't be reached, the lock becomes free
// when its lease ends at the latest.
//
// A lost lock must be unlocked too before this Lock can take it again: until then
// [Lock.Lock] and [Lock.TryLock] fail with [ErrLockLost].
func (l *Lock) Unlock(ctx context.Context) error {
	const op = "unlock"
	if ctx == nil {
		return fail(op, l.name, ErrNilContext)
	}
	l.mu.Lock()
	c := l.claim
	l.claim = nil
	l.mu.Unlock()
	if c == nil {
		return fail(op, l.name, ErrNotHeld)
	}
	defer func() { <-l.turn }()
	ctx, cancel := releasing(ctx, c)
	defer cancel()
	lost, released := c.lost(), false
	c.end()
	defer func() { // also when a hook panics
		if !released {
			l.giveUp(c.session, c.repeated)
		}
	}()
	if lost != nil && !c.session.alive() {
		return fail(op, l.name, lost)
	}
	there, err := l.release(ctx, op, c)
	switch {
	case lost != nil:
		return answered(op, l.name, lost)
	case err != nil:
		return err
	case !there:
		return answered(op, l.name, errs.WithKind(ErrLockLost, ErrLockKeyDeleted))
	}
	released = !c.repeated // otherwise the claim may come back while its lease lives
	return nil
}

// release deletes the key of a claim and reports whether it was there. If there are
// several endpoints, and one is silent for firstPatience or loses the answer, release
// revokes the lease instead: a revocation can be repeated elsewhere, and certainly
// deletes the key.
func (l *Lock) release(ctx context.Context, op string, c *claim) (bool, error) {
	if l.place != nil {
		return l.remove(ctx, op, c.key, c.token)
	}
	patience, cancel := context.WithCancel(ctx)
	several := l.client.rpc.HasSeveralEndpoints()
	if several {
		patience, cancel = context.WithTimeout(ctx, firstPatience)
	}
	defer cancel()
	// Also if somebody else overwrote it: otherwise it would stay for good.
	res, err := l.client.commit(patience, request{op: op, key: l.name}, removal(l.client, c.key, c.token))
	switch {
	case err == nil:
		return res.Succeeded, nil
	case !rpc.TimeIsUp(ctx) && (rpc.TimeIsUp(patience) || several && MaybeApplied(err)):
		return true, c.session.close(ctx)
	default:
		return false, err
	}
}

// Close releases the lock if it is held and ends its lease, in one round trip of at most
// [Config.RequestTimeout]. The lease of a lock [WithSession] stays. Calls that wait for the
// lock end with [ErrClosed]. It is idempotent. Close the lock before its client.
func (l *Lock) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.closing)
	c, s := l.claim, l.session
	l.claim = nil
	l.mu.Unlock()
	if l.place != nil {
		return l.leavePlace(c)
	}
	if c != nil {
		c.end()
		<-l.turn
	}
	err := s.close(context.Background())
	if errors.Is(err, ErrClosed) {
		return nil // the client was closed first; the lease ends by itself
	}
	return err
}

// Context returns a context that lives while the lock is held. It ends with the cause
// [ErrLockLost], and the reason in its chain, when the lease can no longer be relied
// upon, which is before another process can get the lock, or when somebody deleted or
// replaced the key of the lock (see [Lock]). It ends with [context.Canceled] when the
// lock is released. If the lock is not held, the context has already ended with
// [ErrNotHeld].
//
// Its Err looks at the clock, so that it is right at once after a pause of the process. Done, and
// contexts derived from this one, take a moment more.
func (l *Lock) Context() context.Context {
	if c := l.current(); c != nil {
		return promptContext{c.ctx, c.look}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(ErrNotHeld)
	return ctx
}

// Token returns a number that grows each time anybody takes the lock: a fencing token for
// stores that can refuse an older one. It is 0 if the lock is not held.
func (l *Lock) Token() int64 {
	if c := l.current(); c != nil {
		return c.token
	}
	return 0
}

// Held returns a condition for a transaction that holds only while this claim to the lock
// stands. If the lock is not held, the condition never holds.
func (l *Lock) Held() Condition {
	if c := l.current(); c != nil {
		return CreateRevision(c.key).Equal(c.token)
	}
	return Version(l.name).Less(0) // no version is negative
}

// IsLocked reports whether anybody holds the lock or waits for it, in one round trip.
func (l *Lock) IsLocked(ctx context.Context) (bool, error) {
	n, err := l.client.Count(ctx, l.prefix)
	return n > 0, err
}

func (l *Lock) current() *claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.claim
}

// usable returns why the lock can't be taken.
func (l *Lock) usable(ctx context.Context) error {
	if err := l.client.admit(ctx); err != nil {
		return err
	}
	if l.isClosing() {
		return l.closedError()
	}
	if ctx.Err() != nil {
		return errs.OfContext(ctx)
	}
	return nil
}

// unreleased returns ErrLockLost, with the reason, if the lock was lost and has not been
// unlocked since.
func (l *Lock) unreleased(op string) error {
	if c := l.current(); c != nil {
		if lost := c.lost(); lost != nil {
			return fail(op, l.name, lost)
		}
	}
	return nil
}

// closedError returns an error for what was closed: the lock, or its client.
func (l *Lock) closedError() error {
	if l.client.rpc.IsClosed() {
		return ErrClosed
	}
	return errLockClosed
}

// isClosing reports whether the lock or its client was closed.
func (l *Lock) isClosing() bool {
	select {
	case <-l.closing:
		return true
	case <-l.client.rpc.Closing():
		return true
	default:
		return false
	}
}

// WithLock runs f while it holds the lock of that name, with a context of [Lock.Guard]: it ends
// when ctx does or the lock is lost, and its [context.Cause] says which; what f writes with it
// is applied only while the lock is held. [LockOf] gives the lock. WithLock waits for f, which
// should return soon after the end of its context. It returns the error of f, joined with an
// [ErrLockLost] if the lock was lost meanwhile. It refuses a nil f with [ErrInvalidArgument]
// before it sends anything.
//
// A lock that is free takes two round trips, one to take it and one to release it, and the
// first time another one for its lease. The lease is kept for ten seconds for the next WithLock
// of this client with the same time to live: up to 16 of them, each for about a minute in all.
// One that is left when the client is closed ends after its time to live.
func (c *Client) WithLock(ctx context.Context, name string, f func(ctx context.Context) error, opts ...LockOption) (err error) {
	if err := c.admit(ctx); err != nil {
		return fail("lock", name, err)
	}
	switch {
	case ctx.Err() != nil:
		return fail("lock", name, errs.OfContext(ctx))
	case f == nil:
		return fail("lock", name, errNilFunction)
	}
	lock, err := c.newLock(ctx, name, opts, c.kept.session)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := lock.Lock(ctx); err != nil {
		return err
	}
	err = f(lock.Guard(ctx))
	// The end of f may be that of its caller, but the lock must be released in any case.
	lost := lock.Unlock(context.WithoutCancel(ctx))
	if s := lock.yield(); s != nil && lost == nil {
		c.kept.keep(s, lock.ttl)
	} else if s != nil {
		s.abandon()
	}
	return errors.Join(err, lost)
}

// yield closes a lock that nobody uses any more, and returns its session for another one; nil
// if the session is not its own, or still in use.
func (l *Lock) yield() *session {
	if l.place != nil {
		return nil
	}
	select {
	case l.turn <- struct{}{}: // for good: f may have kept the lock
	default:
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.closing)
	return l.session
}
