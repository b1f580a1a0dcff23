package etcd

import (
	"context"
	"errors"
	"time"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/keys"
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
// locks (but for the value of a leader, see [Election]): keys that end with a NUL byte and
// a lease in hexadecimal, and that are attached to that lease. What the server counts or
// deletes by prefix ([Client.Count], DeletePrefix), a watch of a prefix, and a keys-only
// read in a transaction treat claims like other keys. The limit of a read in a transaction
// counts them too: its result may then hold fewer key-values than there are.
type Lock struct {
	seat *contender
	all  []keys.Range // where claims to it lie
	wait time.Duration
}

// NewLock returns the lock of that name, not yet taken. It takes one round trip of at
// most [Config.RequestTimeout], for the lease, or none [WithSession]. Locks of different names
// never exclude each other, even if one name begins with the other; but keep a lock
// [WithConcurrencyKeys] or [WithBothKeys] away from one whose name is its own, a slash and more.
// A name must not be empty or contain a NUL byte.
//
// The keys of a lock are its name, a NUL byte and the lease of the waiter or holder, unless
// [WithConcurrencyKeys] or [WithBothKeys] says otherwise. Their values tell [Lock.Queue] whose
// they are, encrypted where the client encrypts; they are empty if it can't, so a client without
// a primary key can also lock.
func (c *Client) NewLock(name string, opts ...LockOption) (*Lock, error) {
	return c.newLock(context.Background(), name, opts, c.renewals.newSession)
}

func (c *Client) newLock(ctx context.Context, name string, opts []LockOption, grant func(context.Context, int64) (*session, error)) (*Lock, error) {
	const op = "new lock"
	o := lockOptions{ttl: DefaultLockTTL}
	seat, err := c.seat(name, "", errLockClosed)
	if err != nil {
		return nil, fail(op, name, err)
	}
	if err := optionsOf(opts, &o, LockOption.applyLock); err != nil {
		return nil, fail(op, name, err)
	}
	if seat.ttl, err = o.check(); err != nil {
		return nil, fail(op, name, err)
	}
	l := &Lock{seat: seat, wait: o.wait}
	if err := l.layOut(o); err != nil {
		return nil, fail(op, name, err)
	}
	seat.owner = o.owner
	if err := seat.sit(ctx, op, o.session, grant); err != nil {
		return nil, err
	}
	return l, nil
}

// layOut gives the lock its rule, and says where its keys lie.
func (l *Lock) layOut(o lockOptions) error {
	c, seat := l.seat.client, l.seat
	own, err := c.lockRange(seat.name)
	if err != nil {
		return err
	}
	if !o.theirKeys && !o.bothKeys {
		seat.rule, l.all = inOrder{own}, []keys.Range{own}
		return nil
	}
	rule := likeConcurrency{client: c}
	if rule.theirs, err = c.prefixRange(seat.name + "/"); err != nil {
		return err
	}
	if o.bothKeys {
		rule.ours, seat.twin = &inOrder{own}, seat.name+"/"
	} else {
		seat.prefix, seat.bare = seat.name+"/", true
	}
	seat.rule, l.all = rule, rule.ranges()
	return nil
}

// Name returns the name of the lock.
func (l *Lock) Name() string { return l.seat.name }

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
// every ten seconds. If somebody deletes or replaces its own key, it ends with [ErrLockLost]
// within about two seconds.
func (l *Lock) Lock(ctx context.Context) error {
	return l.seat.acquire(ctx, ctx, "lock")
}

// TryLock takes the lock if it is free and reports whether it did, in one round trip; it
// leaves nothing behind if the lock is taken. With [WithTryWait] it queues for up to that
// time, like [Lock.Lock]. For a lock that was lost and has not been unlocked it fails
// with [ErrLockLost].
func (l *Lock) TryLock(ctx context.Context) (bool, error) {
	return l.seat.try(ctx, "try lock", l.wait)
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
	return l.seat.release(ctx, "unlock")
}

// Close releases the lock if it is held and ends its lease, in one round trip of at most
// [Config.RequestTimeout]. The lease of a lock [WithSession] stays. Calls that wait for the
// lock end with [ErrClosed]. It is idempotent. Close the lock before its client.
func (l *Lock) Close() error { return ofCall("close lock", l.seat.name, l.seat.close()) }

// Context returns a context that lives while the lock is held. It ends with the cause
// [ErrLockLost], and the reason in its chain, when the lease can no longer be relied
// upon, which is before another process can get the lock, or when somebody deleted or
// replaced the key of the lock (see [Lock]). It ends with [context.Canceled] when the
// lock is released. If the lock is not held, the context has already ended with
// [ErrNotHeld].
//
// Its Err looks at the clock, so that it is right at once after a pause of the process. Done, and
// contexts derived from this one, take a moment more.
func (l *Lock) Context() context.Context { return l.seat.current().context() }

// Token returns a number that grows each time anybody takes the lock: a fencing token for
// stores that can refuse an older one. It is 0 if the lock is not held.
func (l *Lock) Token() int64 { return l.seat.current().fencingToken() }

// Held returns a condition for a transaction that holds only while this claim to the lock
// stands. If the lock is not held, the condition never holds.
func (l *Lock) Held() Condition { return l.seat.current().condition(l.seat.name) }

// IsLocked reports whether anybody holds the lock or waits for it, in one round trip.
func (l *Lock) IsLocked(ctx context.Context) (bool, error) {
	n, err := l.seat.client.countClaims(ctx, l.seat.name, l.all...)
	return n > 0, ofCall("is locked", l.seat.name, err)
}

// Queue lists who holds the lock and who waits for it, in the order in which they get it. It
// takes one round trip for the claims, and then one for each of their leases, sixteen at a time;
// a claim whose lease has ended by then is left out. Nobody waits for it, and it is over as soon
// as it is made: never decide by it who may do what.
//
// A claim whose record can't be decoded is listed with its [Claim.Err]. Without a claim, the list
// is empty.
func (l *Lock) Queue(ctx context.Context) ([]Claim, error) {
	return l.seat.client.listClaims(ctx, l.seat.name, l.all...)
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
	if s := lock.seat.yield(); s != nil && lost == nil {
		c.kept.keep(s, lock.seat.ttl)
	} else if s != nil {
		s.abandon()
	}
	return errors.Join(err, lost)
}
