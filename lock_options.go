package etcd

import (
	"fmt"
	"time"
)

// LockOption changes a [Lock]: [WithLockTTL] and [WithTryWait].
type LockOption interface{ applyLock(*lockOptions) }

// lockOptions are what options set.
type lockOptions struct {
	ttl  time.Duration
	wait time.Duration
}

// check returns the time to live in the server's unit, or why the options make no sense.
func (o lockOptions) check() (ttlSeconds int64, err error) {
	if o.wait < 0 {
		return 0, fmt.Errorf("%w: negative wait", ErrInvalidArgument)
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

func (ttl lockTTLOption) applyLock(o *lockOptions) { o.ttl = time.Duration(ttl) }

// WithTryWait lets [Lock.TryLock] wait up to d for a lock that is taken, in addition to
// the time that the server takes to answer. The default is 0: it doesn't wait.
func WithTryWait(d time.Duration) LockOption { return tryWaitOption(d) }

type tryWaitOption time.Duration

func (d tryWaitOption) applyLock(o *lockOptions) { o.wait = time.Duration(d) }
