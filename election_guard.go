package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/txntree"
)

// Guard returns a context for the work of the leader: it is derived from ctx, ends when the
// leadership is lost or resigned, and binds writes to etcd to this leadership, as [Lock.Guard]
// does to a lock: what a leader writes with it that has been replaced, and doesn't know yet, fails
// with [ErrLockLost] and is certainly not applied. [Client.Lead] passes such a context.
func (e *Election) Guard(ctx context.Context) context.Context {
	f := &fence{conn: e.client.conn, owner: e}
	l := e.current()
	if l != nil {
		f.claim = &l.claim
	}
	ctx = f.in(ctx)
	if l != nil && l.twin != nil {
		ctx = (&fence{conn: f.conn, owner: e, claim: pairedWith{&l.claim}}).in(ctx)
	}
	return ctx
}

// ElectionOf returns the election that ctx is guarded by, the innermost of several, or nil: in the
// function of [Client.Lead] the one that it leads, for [Election.Proclaim].
func ElectionOf(ctx context.Context) *Election {
	for f := fenceOf(ctx); f != nil; f = f.around {
		if e, ok := f.owner.(*Election); ok {
			return e
		}
	}
	return nil
}

// Context returns a context that lives while this Election leads. It ends with the cause
// [ErrLockLost], and the reason in its chain, when the leadership can no longer be relied upon,
// which is before anybody else can have it, or when somebody deleted or replaced the leader's key
// (either one, [WithBothKeys]); and with [context.Canceled] at [Election.Resign]. If it doesn't lead,
// the context has already ended with [ErrNotHeld]. Its Err looks at the clock, as that of
// [Lock.Context] does.
func (e *Election) Context() context.Context {
	if l := e.current(); l != nil {
		return promptContext{l.ctx, l.look}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errNotLeading)
	return ctx
}

// Token returns a number that grows from leader to leader: a fencing token for stores that can
// refuse an older one. It is 0 if this Election doesn't lead.
func (e *Election) Token() int64 {
	if l := e.current(); l != nil {
		return l.token
	}
	return 0
}

// Held returns a condition for a transaction that holds only while this leadership stands. If this
// Election doesn't lead, the condition never holds.
func (e *Election) Held() Condition {
	if l := e.current(); l != nil {
		return CreateRevision(l.key).Equal(l.token)
	}
	return Version(e.name).Less(0) // no version is negative
}

// current returns the leadership, also one that was lost, or nil.
func (e *Election) current() *leadership {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.led == nil || e.led.resigning {
		return nil
	}
	return e.led
}

// Proclaim replaces the leader's value, in one round trip. The leadership, its Token and its Guard
// stay. It fails with [ErrNotHeld] if this Election doesn't lead, and with [ErrLockLost] if the
// leadership was lost; then the value is certainly not applied.
func (e *Election) Proclaim(ctx context.Context, value []byte) error {
	const op = "proclaim"
	if err := e.usable(ctx); err != nil {
		return fail(op, e.name, err)
	}
	l := e.current()
	if l == nil {
		return fail(op, e.name, errNotLeading)
	}
	if lost := l.lost(); lost != nil {
		return fail(op, e.name, lost)
	}
	r := request{op: op, key: e.name, write: true}
	// The transaction is bound to the leadership itself.
	txn := &pb.TxnRequest{}
	for _, k := range l.keys() {
		put, sealed, err := e.client.putRequest(ctx, k.key, value, putOptions{lease: l.lease})
		if err != nil {
			return fail(op, e.name, err)
		}
		r.seals = sealed.link(r.seals)
		txn.Compare = append(txn.Compare, k.stands())
		txn.Success = append(txn.Success, txntree.Put(put))
		txn.Failure = append(txn.Failure, txntree.Range(&pb.RangeRequest{Key: k.stored, KeysOnly: true}))
	}
	resp, err := e.client.sendTxn(Unguarded(ctx), r, txn)
	if err != nil || resp.Succeeded {
		return err
	}
	for i, k := range l.keys()[:min(len(l.keys()), len(resp.Responses))] {
		k.found(resp.Responses[i].GetResponseRange())
	}
	if lost := l.lost(); lost != nil {
		return r.answered(lost)
	}
	return r.answered(lostKey)
}
