package etcd

import "context"

// RWLock is a lock that many may hold to read, or one to write: between processes, and between
// the goroutines of one process. Make one with [Client.NewRWLock] and end it with
// [RWLock.Close].
//
// It is fair: everyone gets it in the order in which they came. A reader waits for the writers
// before it, a writer for all before it. So readers who come while a writer waits wait for that
// writer, and none is starved.
//
// An RWLock is safe for concurrent use, and may be held by many goroutines at once. It is not
// reentrant: who holds it to read and takes it to write waits for itself, as does who takes it
// to read again while a writer waits.
//
// What is said at [Lock] of losing a lock, of its key and of lists holds for each claim to an
// RWLock too. A name may be that of a Lock or a [Semaphore] as well: they don't exclude one
// another.
//
// Every RLock and Lock makes a claim of its own, with a lease of its own unless [WithSession]
// gives them one in common. Context, Guard, Held and Token speak of the claim that has been held
// for the longest time and still stands, so that a context lives until the last one is given
// back.
type RWLock struct {
	seats       *seats
	read, write inOrder
}

var errRWLockClosed error = closedError("read-write lock is closed")

// NewRWLock returns the read-write lock of that name, not yet taken. It sends nothing. A name
// must not be empty or contain a NUL byte.
func (c *Client) NewRWLock(name string, opts ...LockOption) (*RWLock, error) {
	const op = "new read-write lock"
	if c.rpc.IsClosed() {
		return nil, fail(op, name, ErrClosed)
	}
	o := lockOptions{ttl: DefaultLockTTL}
	if err := optionsOf(opts, &o, LockOption.applyLock); err != nil {
		return nil, fail(op, name, err)
	}
	seats, err := c.newSeats(name, readKind+longestNumber, o, errRWLockClosed)
	if err != nil {
		return nil, fail(op, name, err)
	}
	l := &RWLock{seats: seats}
	seats.owner = l
	if l.read.before, err = c.prefixRange(name + "\x00" + writeKind); err != nil {
		return nil, fail(op, name, err)
	}
	if l.write.before, err = c.prefixRange(name + "\x00" + rwKind); err != nil {
		return nil, fail(op, name, err)
	}
	return l, nil
}

// Name returns the name of the lock.
func (l *RWLock) Name() string { return l.seats.name }

// RLock takes the lock to read, and waits as long as ctx allows for the writers before it; a ctx
// without a deadline waits forever. It takes one round trip if there are none, and another for
// its lease if the client has none left over: see [Client.WithLock].
//
// When ctx ends, RLock returns within a tenth of a second and leaves nothing of its claim
// behind, as [Lock.Lock] does; the error matches [ErrLocked] if it waited for others. It fails
// with [ErrLockLost] if the claim or its lease ends during the wait.
func (l *RWLock) RLock(ctx context.Context) error {
	return l.seats.acquire(ctx, "read lock", readKind, l.read)
}

// TryRLock takes the lock to read if no writer holds it or waits for it, and reports whether it
// did, in one round trip, and another for its lease as in RLock. It leaves nothing behind if it
// did not. With [WithTryWait] it queues for up to that time.
func (l *RWLock) TryRLock(ctx context.Context) (bool, error) {
	return l.seats.try(ctx, "try read lock", readKind, l.read)
}

// RUnlock gives back what one RLock or TryRLock took, in one round trip; ctx may be one of the
// lock's own [RWLock.Guard]. It fails with [ErrNotHeld] if the lock is not held to read, and with
// [ErrLockLost] if a claim to read was lost before: that one is given back first. Whatever it
// returns, that claim is no longer held afterwards.
func (l *RWLock) RUnlock(ctx context.Context) error {
	return l.seats.release(ctx, "read unlock", readKind)
}

// Lock takes the lock to write, and waits for all who came before as long as ctx allows; see
// [RWLock.RLock]. If a claim to write was lost and has not been unlocked since,
// it fails with [ErrLockLost].
func (l *RWLock) Lock(ctx context.Context) error {
	const op = "lock"
	if err := l.seats.lost(writeKind); err != nil {
		return fail(op, l.seats.name, err)
	}
	return l.seats.acquire(ctx, op, writeKind, l.write)
}

// TryLock takes the lock to write if nobody holds it or waits for it, and reports whether it did,
// in as many round trips as [RWLock.TryRLock]. It leaves nothing behind if it did not. With
// [WithTryWait] it queues for up to that time.
func (l *RWLock) TryLock(ctx context.Context) (bool, error) {
	const op = "try lock"
	if err := l.seats.lost(writeKind); err != nil {
		return false, fail(op, l.seats.name, err)
	}
	return l.seats.try(ctx, op, writeKind, l.write)
}

// Unlock gives back what Lock or TryLock took, as [RWLock.RUnlock] does for a reader.
func (l *RWLock) Unlock(ctx context.Context) error {
	return l.seats.release(ctx, "unlock", writeKind)
}

// Close gives back all that is held, in one round trip for each, of at most
// [Config.RequestTimeout]; after a failure the rest is given back in the background. Calls that
// wait end with [ErrClosed]. It is idempotent. Close the lock before its client.
func (l *RWLock) Close() error {
	return ofCall("close read-write lock", l.seats.name, l.seats.close())
}

// Context returns a context that lives while the lock is held, to read or to write, by anyone who
// shares this RWLock: see [Lock.Context].
func (l *RWLock) Context() context.Context { return l.seats.oldest().context() }

// Guard returns a context for the work that the lock protects, as [Lock.Guard] does: it ends when
// the claim does that it is bound to, and no write made with it is applied after that.
func (l *RWLock) Guard(ctx context.Context) context.Context { return l.seats.guard(ctx) }

// Token returns a fencing token: that of a writer is larger than those of all who held the lock
// before. It is 0 if the lock is not held.
func (l *RWLock) Token() int64 { return l.seats.oldest().fencingToken() }

// Held returns a condition for a transaction that holds only while the claim stands. If the lock
// is not held, the condition never holds.
func (l *RWLock) Held() Condition { return l.seats.oldest().condition(l.seats.name) }
