package etcd

import (
	"context"
	"strconv"
)

// Semaphore is a lock that as many may hold as its size allows: between processes, and between
// the goroutines of one process. Make one with [Client.NewSemaphore] and end it with
// [Semaphore.Close].
//
// It is fair: everyone gets it in the order in which they came, whatever they weigh
// ([WithWeight]). So a heavy claim that waits holds up the light ones behind it, and is not
// starved by them.
//
// All who use a semaphore must agree on its size. Where they don't, those who come while others
// hold it or wait for it are refused with [ErrSemaphoreSize]. To change the size, let all go who
// use the old one.
//
// A Semaphore is safe for concurrent use, and may be held several times at once: every Acquire
// makes a claim of its own, with a lease of its own unless [WithSession] gives them one in common,
// which suits those that are held many times. Context, Guard, Held and Token speak of the claim
// that has been held for the longest time and still stands, so that a context lives until the last
// one is given back.
//
// What is said at [Lock] of losing a lock, of its key and of lists holds for each claim to a
// Semaphore too. A name may be that of a Lock or an [RWLock] as well: they don't exclude one
// another.
type Semaphore struct {
	seats *seats
	kind  string
	rule  inTotal
}

var errSemaphoreClosed error = closedError("semaphore is closed")

// NewSemaphore returns the semaphore of that name and size, of which nothing is taken yet. It sends
// nothing. A name must not be empty or contain a NUL byte, and the size must be at least 1.
func (c *Client) NewSemaphore(name string, size int, opts ...SemaphoreOption) (*Semaphore, error) {
	const op = "new semaphore"
	if c.rpc.IsClosed() {
		return nil, fail(op, name, ErrClosed)
	}
	o := semaphoreOptions{lockOptions: lockOptions{ttl: DefaultLockTTL}, weight: 1}
	err := optionsOf(opts, &o, SemaphoreOption.applySemaphore)
	if err == nil {
		err = o.checkWeight(size)
	}
	if err != nil {
		return nil, fail(op, name, err)
	}
	s := &Semaphore{kind: semaphoreKind + strconv.Itoa(size) + "/" + strconv.Itoa(o.weight) + "\x00"}
	if s.seats, err = c.newSeats(name, s.kind+longestNumber, o.lockOptions, errSemaphoreClosed); err != nil {
		return nil, fail(op, name, err)
	}
	s.seats.owner = s
	if s.rule, err = c.inTotal(name, size, o.weight); err != nil {
		return nil, fail(op, name, err)
	}
	return s, nil
}

// Name returns the name of the semaphore.
func (s *Semaphore) Name() string { return s.seats.name }

// Acquire takes its weight of the semaphore, and waits for those before it as long as ctx allows;
// a ctx without a deadline waits forever. It takes one round trip if there is room, and another
// for its lease if the client has none left over: see [Client.WithLock].
//
// When ctx ends, Acquire returns within a tenth of a second and leaves nothing of its claim
// behind, as [Lock.Lock] does; the error matches [ErrLocked] if it waited for others. It fails
// with [ErrLockLost] if the claim or its lease ends during the wait, and with [ErrSemaphoreSize]
// if others use another size.
func (s *Semaphore) Acquire(ctx context.Context) error {
	return s.seats.acquire(ctx, "acquire", s.kind, s.rule)
}

// TryAcquire takes its weight of the semaphore if there is room beside all who hold it and wait
// for it, and reports whether it did. It leaves nothing behind if it did not take it. With
// [WithTryWait] it queues for up to that time.
//
// It takes one round trip if there is no room or nobody has the semaphore, or if all who have it
// had it already when this Semaphore, within the last ten seconds, last learnt of room for one
// more; otherwise two, and one more for its lease as in Acquire. What it remembers never refuses
// anyone: the server does. A cluster that was restored from a backup meanwhile makes it fail with
// [ErrRevisionRegressed], as far as that shows.
func (s *Semaphore) TryAcquire(ctx context.Context) (bool, error) {
	return s.seats.try(ctx, "try acquire", s.kind, s.rule)
}

// Release gives back what one Acquire or TryAcquire took, in one round trip; ctx may be one of the
// semaphore's own [Semaphore.Guard]. It fails with [ErrNotHeld] if there is nothing to give back,
// and with [ErrLockLost] if a claim was lost before: that one is given back first. Whatever it
// returns, that claim is no longer held afterwards.
func (s *Semaphore) Release(ctx context.Context) error {
	return s.seats.release(ctx, "release", s.kind)
}

// Close gives back all that is held, in one round trip for each, of at most
// [Config.RequestTimeout]; after a failure the rest is given back in the background. Calls that
// wait end with [ErrClosed]. It is idempotent. Close the semaphore before its client.
func (s *Semaphore) Close() error { return ofCall("close semaphore", s.seats.name, s.seats.close()) }

// Context returns a context that lives while the semaphore is held by anyone who shares this
// Semaphore: see [Lock.Context].
func (s *Semaphore) Context() context.Context { return s.seats.oldest().context() }

// Guard returns a context for the work that the semaphore admits, as [Lock.Guard] does: it ends
// when the claim does that it is bound to, and no write made with it is applied after that.
func (s *Semaphore) Guard(ctx context.Context) context.Context { return s.seats.guard(ctx) }

// Token returns a number that grows each time anybody comes for the semaphore. It is 0 if the
// semaphore is not held. Others may hold the semaphore with a larger one.
func (s *Semaphore) Token() int64 { return s.seats.oldest().fencingToken() }

// Held returns a condition for a transaction that holds only while the claim stands. If the
// semaphore is not held, the condition never holds.
func (s *Semaphore) Held() Condition { return s.seats.oldest().condition(s.seats.name) }
