package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/errs"
)

// Unguarded returns a context like ctx whose writes are not bound to locks: see [Lock.Guard].
// It is for what must be written whoever holds the lock, and for another cluster. It still ends
// with ctx, which has ended when the lock is lost: write a note of the loss with the context
// from before Guard or [Client.WithLock], or with [context.WithoutCancel] of the unguarded one.
// A context that no lock guards is returned as it is.
func Unguarded(ctx context.Context) context.Context {
	if fenceOf(ctx) == nil {
		return ctx
	}
	return context.WithValue(ctx, fenceKey{}, (*fence)(nil))
}

// fence binds the writes of a context to a claim.
type fence struct {
	conn  *conn
	owner any     // what the claim is to
	claim fencing // nil if its owner had none
	// parent is the context that it was made for, and around the fence of that; nil for none.
	parent context.Context
	around *fence
}

// fencing is a claim that writes can be bound to. It is the key of the claim that counts.
type fencing interface {
	// over returns ErrLockLost with the reason if the claim is known to be over, else nil.
	over() error
	// life ends with the claim.
	life() context.Context
	// stands returns the condition that the claim's key is still there.
	stands() *pb.Compare
	// found takes note of what a read of that key has shown.
	found(got *pb.RangeResponse)
}

type fenceKey struct{}

// fenceOf returns the innermost fence of a context, or nil.
func fenceOf(ctx context.Context) *fence {
	if ctx == nil {
		return nil
	}
	f, _ := ctx.Value(fenceKey{}).(*fence)
	return f
}

// in returns a context for work behind the fence.
func (f *fence) in(ctx context.Context) context.Context {
	if ctx == nil {
		return nil
	}
	f.parent, f.around = ctx, fenceOf(ctx)
	guarded, cancel := context.WithCancelCause(context.WithValue(ctx, fenceKey{}, f))
	if lost := f.lost(); lost != nil {
		cancel(lost)
		return guarded
	}
	forget := context.AfterFunc(f.claim.life(), func() { cancel(f.lost()) })
	context.AfterFunc(guarded, func() { forget() })
	return promptContext{guarded, func() {
		if lost := f.lost(); lost != nil {
			cancel(lost)
		}
	}}
}

// errReleased is the error of a claim that its holder has given up.
var errReleased = errs.WithKind(ErrLockLost, ErrNotHeld)

// lost returns ErrLockLost with the reason if the claim is known to be over, otherwise nil.
func (f *fence) lost() error {
	if f.claim == nil {
		return errReleased
	}
	return f.claim.over()
}

// releasing returns ctx for the release of a claim, which ends the contexts that are guarded
// by it: one of those lives on as long as what it was made from, and to its own deadline.
func releasing(ctx context.Context, c fencing) (context.Context, context.CancelFunc) {
	return outside(ctx, func(f *fence) bool { return f.claim == c })
}

// outside returns ctx as it is outside of the innermost fence for which is reports true: it
// doesn't end with that.
func outside(ctx context.Context, is func(*fence) bool) (context.Context, context.CancelFunc) {
	for f := fenceOf(ctx); f != nil; f = f.around {
		if !is(f) {
			continue
		}
		out, end := detached(ctx)
		forget := context.AfterFunc(f.parent, func() { end(context.Cause(f.parent)) })
		return Unguarded(out), func() {
			forget()
			end(nil)
		}
	}
	return Unguarded(ctx), func() {}
}

// detached returns ctx without its end, but with its deadline.
func detached(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	deadline, ok := ctx.Deadline()
	if !ok {
		return out, cancel
	}
	out, free := context.WithDeadline(out, deadline)
	return out, func(cause error) {
		cancel(cause)
		free()
	}
}
