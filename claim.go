package etcd

import (
	"context"
	"errors"
	"time"
)

// lockCleanup bounds the extra time that a call takes to withdraw its claim
// after its context has ended, at half of what Lock promises.
const lockCleanup = 50 * time.Millisecond

// claim is a place in the queue for a lock, or the lock itself.
type claim struct {
	key     string
	token   int64 // the create revision of key
	session *session
	// From begin on, when it is the lock itself.
	ctx    context.Context
	cancel context.CancelCauseFunc
	unhook func() bool
}

// begin makes the context of a claim that has become a held lock.
func (c *claim) begin() {
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.unhook = context.AfterFunc(c.session.ctx, func() { c.cancel(lockLost(c.session)) })
}

// end ends the context of a claim that is over.
func (c *claim) end() {
	c.unhook()
	c.cancel(context.Canceled)
}

// tryAcquire takes the lock if nobody holds it or waits for it.
func (l *Lock) tryAcquire(ctx context.Context, op string) (bool, error) {
	c, free, err := l.compete(ctx, op, false)
	if err != nil || !free {
		return false, err
	}
	err = l.hold(c, op)
	return err == nil, err
}

// acquire queues for the lock and waits for its turn as long as waiting lives.
func (l *Lock) acquire(ctx, waiting context.Context, op string) error {
	c, free, err := l.compete(ctx, op, true)
	if err != nil {
		return err
	}
	if !free {
		if err := l.await(waiting, op, c); err != nil {
			l.withdraw(c)
			return err
		}
	}
	return l.hold(c, op)
}

// compete makes a claim if the lock is free, or else, if queue says so, puts it
// into the queue; it reports which. A lease that the server no longer knows, as
// after a suspension of this machine, is replaced.
func (l *Lock) compete(ctx context.Context, op string, queue bool) (c *claim, free bool, err error) {
	for first := true; ; first = false {
		s, err := l.liveSession(ctx, op)
		if err != nil {
			return nil, false, err
		}
		key := l.prefix + s.id.String()
		put := OpPut(key, nil, WithLease(s.id))
		txn := l.client.Txn().If(PrefixEmpty(l.prefix)).Then(put)
		if queue {
			txn.Else(put)
		}
		res, err := l.client.commit(ctx, op, l.name, txn)
		if err == nil {
			return &claim{key: key, token: res.Revision, session: s}, res.Succeeded, nil
		}
		// What may have been applied is a claim that nobody would ever release.
		unknown := errors.Is(err, ErrLeaseNotFound)
		if unknown || MaybeApplied(err) {
			s.abandon()
		}
		switch {
		case l.isClosing():
			return nil, false, fail(op, l.name, ErrClosed)
		case !unknown || !first:
			return nil, false, err
		}
	}
}

// withdraw takes back a claim of a caller that no longer waits. If that can't be
// confirmed soon, the lease goes, and the claim with it.
func (l *Lock) withdraw(c *claim) {
	ctx, cancel := context.WithTimeout(context.Background(), lockCleanup)
	defer cancel()
	if _, err := l.client.Delete(ctx, c.key); err != nil {
		c.session.abandon()
	}
}

// liveSession returns a session whose lease can be relied upon.
func (l *Lock) liveSession(ctx context.Context, op string) (*session, error) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s.alive() {
		return s, nil // if l was closed meanwhile, hold notices
	}
	s, err := l.client.newSession(ctx, l.ttl)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		s.abandon()
		return nil, fail(op, l.name, ErrClosed)
	}
	l.session = s
	return s, nil
}

// hold notes that the lock is held, unless it was closed or its lease lost
// meanwhile.
func (l *Lock) hold(c *claim, op string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		c.session.abandon()
		return fail(op, l.name, ErrClosed)
	case !c.session.alive():
		c.session.abandon()
		return fail(op, l.name, lockLost(c.session))
	}
	c.begin()
	l.claim = c
	return nil
}

// lockLost returns ErrLockLost with the reason.
func lockLost(s *session) error { return withKind(ErrLockLost, context.Cause(s.ctx)) }
