package etcd

import "context"

// Guard returns a context for the work that the lock protects: it is derived from ctx, ends
// when the lock is lost or released, and binds writes to etcd to this claim to the lock.
// [Client.WithLock] passes such a context.
//
// Every write of keys that this client makes with it, or with a context derived from it,
// carries the condition that the claim still stands, in its own transaction and at no further
// round trip: puts, deletions, compare-and-swaps, bulk calls and each of their chunks,
// [Client.Update], [Client.Transact], [Txn.Commit], [Client.MoveKey], [Client.Import],
// [Client.Reencrypt] and those of [Typed]. So a holder that was paused or cut off, and
// doesn't know yet that another one has the lock, can't change anything any more: its write
// fails with [ErrLockLost] and is certainly not applied. (One that is under way when the holder
// learns of the loss waits for the server's answer for up to a second more; if none comes,
// [MaybeApplied] reports true. Behind a proxy that sends requests again, the certainty takes
// encryption, see [Txn].) Conditions of the caller's own are told apart from the lock's, and
// keep their meaning.
//
// Not bound are reads, leases ([Client.Grant], [Client.RevokeLease], those of
// [Client.PutWithTTL] and Import), the requests by which locks are taken and released, and
// what goes through [Client.Raw]. [Unguarded] exempts others.
//
// The context ends with the cause [ErrLockLost], and the reason in its chain: as for
// [Lock.Context], or [ErrNotHeld] after [Lock.Unlock] or if the lock was not held. Writes
// with a context that outlived it, such as one of [context.WithoutCancel], fail with the same
// error.
//
// Guards nest: a context with several binds writes to all of the locks. A write of another
// client is refused with [ErrInvalidArgument], and nothing is sent: its cluster may be another
// one.
//
// In the server's limits a guard counts as a condition, and as an operation beside those for
// the case that conditions don't hold: a transaction that needs all of [Config.MaxTxnOps] for
// them fails with [ErrTooManyOps], and a write that leaves no room for the lock's key, twice,
// within [Config.MaxRequestBytes] with [ErrTooLarge]. A transaction that changes keys if its
// conditions don't hold ([Txn.Else]) becomes a level of a transaction around it.
//
// Call Guard once for a piece of work, not for each write: it takes memory until ctx ends or
// the lock is released. A nil ctx gives nil, which every call refuses.
func (l *Lock) Guard(ctx context.Context) context.Context {
	f := &fence{conn: l.seat.client.conn, owner: l}
	c := l.seat.current()
	if c != nil {
		f.claim = c
	}
	ctx = f.in(ctx)
	if c != nil && c.twin != nil {
		ctx = (&fence{conn: f.conn, owner: l, claim: pairedWith{c}}).in(ctx)
	}
	return ctx
}

// LockOf returns the lock that ctx is guarded by, the innermost of several, or nil: in the
// function of [Client.WithLock] the lock that it holds, for its [Lock.Token].
func LockOf(ctx context.Context) *Lock {
	for f := fenceOf(ctx); f != nil; f = f.around {
		if l, ok := f.owner.(*Lock); ok {
			return l
		}
	}
	return nil
}
