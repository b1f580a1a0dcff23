package etcd

import (
	"context"
	"time"
)

// lockCleanup bounds the extra time that a call takes to withdraw its claim
// after its context has ended, at half of what Lock promises.
const lockCleanup = 50 * time.Millisecond

// claim is a held lock.
type claim struct {
	key     string
	token   int64
	session *session
	ctx     context.Context
	cancel  context.CancelCauseFunc
	unhook  func() bool
}

// end ends the context of a claim that is over.
func (c *claim) end() {
	c.unhook()
	c.cancel(context.Canceled)
}

// tryAcquire claims the lock if nobody else does.
func (l *Lock) tryAcquire(ctx context.Context, op string) (bool, error) {
	s, err := l.liveSession(ctx, op)
	if err != nil {
		return false, err
	}
	key := l.prefix + s.id.String()
	res, err := l.client.commit(ctx, op, l.name, l.client.Txn().
		If(PrefixEmpty(l.prefix)).
		Then(OpPut(key, nil, WithLease(s.id))))
	if err != nil {
		s.doubt(err)
		return false, err
	}
	if !res.Succeeded {
		return false, nil
	}
	err = l.hold(s, key, res.Revision, op)
	return err == nil, err
}

// acquire queues for the lock and waits for its turn as long as waiting lives.
func (l *Lock) acquire(ctx, waiting context.Context, op string) error {
	s, err := l.liveSession(ctx, op)
	if err != nil {
		return err
	}
	key := l.prefix + s.id.String()
	put := OpPut(key, nil, WithLease(s.id))
	res, err := l.client.commit(ctx, op, l.name, l.client.Txn().If(PrefixEmpty(l.prefix)).Then(put).Else(put))
	if err != nil {
		s.doubt(err)
		return err
	}
	if !res.Succeeded {
		if err := l.await(waiting, op, s, key, res.Revision); err != nil {
			l.withdraw(s, key)
			return err
		}
	}
	return l.hold(s, key, res.Revision, op)
}

// withdraw takes back a claim of a caller that no longer waits. If that can't be
// confirmed soon, the lease goes, and the claim with it.
func (l *Lock) withdraw(s *session, key string) {
	ctx, cancel := context.WithTimeout(context.Background(), lockCleanup)
	defer cancel()
	if _, err := l.client.Delete(ctx, key); err != nil {
		s.abandon()
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
func (l *Lock) hold(s *session, key string, token int64, op string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		s.abandon()
		return fail(op, l.name, ErrClosed)
	case !s.alive():
		s.abandon()
		return fail(op, l.name, lockLost(s))
	}
	c := &claim{key: key, token: token, session: s}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.unhook = context.AfterFunc(s.ctx, func() { c.cancel(lockLost(s)) })
	l.claim = c
	return nil
}

// lockLost returns ErrLockLost with the reason.
func lockLost(s *session) error { return withKind(ErrLockLost, context.Cause(s.ctx)) }
