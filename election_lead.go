package etcd

import (
	"context"
	"errors"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// Lead campaigns in the election of that name with a value, and runs f while it leads, with a
// context of [Election.Guard]: it ends when ctx does or the leadership is lost, and its
// [context.Cause] says which; what f writes with it is applied only while it leads.
// [ElectionOf] gives the election, for [Election.Proclaim]. Lead waits for f, which should return
// soon after the end of its context.
//
// After a loss Lead campaigns again, and runs f again: f has returned nil, the end of its context,
// or an error that matches [ErrLockLost]. Otherwise Lead resigns, whatever has become of ctx, and
// returns the error of f, joined with what became of the resignation if that failed; nil if f
// returned nil. If f has resigned by itself, Lead returns its error. It goes on campaigning while
// the cluster can't be reached, and ends when ctx does. It returns what can't pass by itself: bad
// arguments, a permission that is missing, a value that can't be encrypted, a foreign key in the way
// ([ErrForeignKey]).
func (c *Client) Lead(ctx context.Context, name string, value []byte, f func(ctx context.Context) error, opts ...ElectionOption) (err error) {
	const op = "lead"
	if err := c.admit(ctx); err != nil {
		return fail(op, name, err)
	}
	if f == nil {
		return fail(op, name, errNilFunction)
	}
	e, err := c.newElection(name, opts)
	if err != nil {
		return fail(op, name, err)
	}
	defer func() { err = errors.Join(err, e.Close()) }() // also if f panics
	for failures := 0; ; {
		err := e.Campaign(ctx, value)
		switch {
		case err == nil:
			failures = 0
			if again, err := e.lead(ctx, f); !again {
				return err
			}
		case ctx.Err() != nil, !IsRetryable(err) && !e.mayLeadYet(err):
			return err
		default:
			failures++
			rpc.Pause(ctx, e.client.rpc.Closing(), rpc.Backoff(failures))
		}
	}
}

// mayLeadYet reports whether another campaign makes sense after one that was lost: not on a
// session that has ended.
func (e *Election) mayLeadYet(lost error) bool {
	return errors.Is(lost, ErrLockLost) && !e.isClosing() && (e.shared == nil || e.shared.alive())
}

// lead runs f for a leader and resigns. It reports whether to campaign again, as the leadership was
// lost.
func (e *Election) lead(ctx context.Context, f func(context.Context) error) (again bool, err error) {
	guarded := e.Guard(ctx)
	err = f(guarded)
	over := context.Cause(guarded)
	// The end of f may be that of its caller, but it must resign in any case.
	resigned := e.Resign(context.WithoutCancel(ctx))
	if errors.Is(over, ErrNotHeld) && errors.Is(resigned, ErrNotHeld) { // f has resigned
		return false, err
	}
	lost := errors.Is(over, ErrLockLost) || errors.Is(resigned, ErrLockLost) // perhaps not known before
	told := err == nil || errors.Is(err, context.Canceled) || errors.Is(err, ErrLockLost)
	if lost && told && ctx.Err() == nil && e.mayLeadYet(ErrLockLost) {
		return true, nil
	}
	return false, errors.Join(err, resigned)
}
