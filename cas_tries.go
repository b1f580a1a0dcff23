package etcd

import (
	"context"
	"errors"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// untilUncontested calls round until it reports that the matter is settled or fails, all
// under one deadline. Clients that compete for a key spread out by pausing between the
// rounds. A round begins by reading: what was read before a pause would be out of date
// after it, and a slow competitor would lose to a fast one forever.
func (c *Client) untilUncontested(ctx context.Context, r request, round func(context.Context) (bool, error)) error {
	return c.withDeadline(ctx, r, func(ctx context.Context) error {
		for n := 1; ; n++ {
			settled, err := round(ctx)
			if settled {
				return err
			}
			if err != nil {
				return afterConflicts(ctx, n-1, err)
			}
			switch {
			case rpc.Pause(ctx, c.rpc.Closing(), rpc.Backoff(n)):
			case c.rpc.IsClosed():
				return r.answered(ErrClosed)
			default:
				return r.answered(errs.WithKind(ErrConflict, context.Cause(ctx)))
			}
		}
	})
}

// afterConflicts returns the error of a try or a round that others got in the way of n
// times before. If time was up, they are the reason.
func afterConflicts(ctx context.Context, n int, err error) error {
	if n == 0 || !rpc.TimeIsUp(ctx) {
		return err
	}
	if e, ok := err.(*Error); ok && !errors.Is(err, ErrConflict) { //nolint:errorlint // a request of this package, not one inside a caller's error
		e.Err = errs.WithKind(ErrConflict, e.Err)
	}
	return err
}

// triesPerRound is how often an optimistic write is tried between two pauses: once with
// what was read, and once with what the answer to the first try holds.
const triesPerRound = 2
