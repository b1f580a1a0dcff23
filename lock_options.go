package etcd

import (
	"fmt"
	"time"
)

// LockOption changes a [Lock]: [WithLockTTL], [WithTryWait] and [WithSession].
type LockOption interface{ applyLock(*lockOptions) }

// lockOptions are what options set.
type lockOptions struct {
	ttl     time.Duration
	ttlSet  bool
	wait    time.Duration
	session *Session
}

// check returns the time to live in the server's unit, or why the options make no sense.
func (o lockOptions) check() (ttlSeconds int64, err error) {
	if o.wait < 0 {
		return 0, fmt.Errorf("%w: negative wait", ErrInvalidArgument)
	}
	if o.session != nil && o.ttlSet {
		return 0, fmt.Errorf("%w: WithLockTTL and WithSession, which has its own time to live", ErrInvalidArgument)
	}
	return checkTTL(o.ttl)
}

// WithLockTTL sets the time to live of the lock's lease, in whole seconds (rounded up;
// the server may raise it, see [Client.Grant]). Others get the lock after this time if
// its holder has died. A holder survives three quarters of it without an answer from the
// cluster: the lease is renewed at least every eighth, and counts as lost a tenth of it,
// at most a second, before it may end. The default is [DefaultLockTTL].
func WithLockTTL(ttl time.Duration) LockOption { return lockTTLOption(ttl) }

type lockTTLOption time.Duration

func (ttl lockTTLOption) applyLock(o *lockOptions) { o.ttl, o.ttlSet = time.Duration(ttl), true }

// WithSession has the lock use the lease of a session, instead of one of its own: then
// [Client.NewLock] and [Lock.Close] of a lock that is not held take no round trip, and the lock
// is lost with the session. Locks of one name on one session exclude each other. A nil session
// is refused, one of another client too, and WithLockTTL beside it, with [ErrInvalidArgument];
// one that has ended with [ErrClosed] or [ErrLeaseLost].
//
// A claim whose answer is lost can't be given up with the lease then, as others depend on it: it
// is deleted by its key. Until the server answers that, it is tried again, from ten times a
// second down to every ten seconds, for as long as the session lives.
func WithSession(s *Session) LockOption {
	if s == nil {
		return nil // refused like any nil option
	}
	return lockSessionOption{s}
}

type lockSessionOption struct{ session *Session }

func (s lockSessionOption) applyLock(o *lockOptions) { o.session = s.session }

// WithTryWait lets [Lock.TryLock] wait up to d for a lock that is taken, in addition to
// the time that the server takes to answer. The default is 0: it doesn't wait.
func WithTryWait(d time.Duration) LockOption { return tryWaitOption(d) }

type tryWaitOption time.Duration

func (d tryWaitOption) applyLock(o *lockOptions) { o.wait = time.Duration(d) }
