package etcd

import (
	"context"
	"errors"
)

// optimistic reads by reads, has plan make a transaction of what was found, and
// commits it. The conditions of the plan have to hold as long as what was found does;
// if they don't any more, plan is called again with what is found then. A nil
// transaction means that nothing is to be done. w is told what became of it.
func (c *Client) optimistic(ctx context.Context, op, key string, w writeOptions, reads []Op, plan func(found *TxnResult) (*Txn, error)) error {
	return c.untilUncontested(ctx, op, key, func(ctx context.Context) (bool, error) {
		found, err := c.commit(ctx, op, key, c.Txn().Then(reads...))
		for n := 0; err == nil && n < triesPerRound; n++ {
			var txn *Txn
			if txn, err = plan(found); err != nil {
				return true, err
			}
			if txn == nil {
				w.tellRevision(found.Revision)
				return true, nil
			}
			if c.codec.encrypts() {
				read := found
				txn.versions = func(stored []byte) int64 {
					kv, _ := read.KV(c.visible(stored))
					return kv.Version
				}
			}
			found, err = c.commit(ctx, op, key, txn.Else(reads...))
			if err == nil && found.Succeeded {
				w.tellTxn(found)
				return true, nil
			}
			err = afterConflicts(ctx, n, err)
		}
		return false, err
	})
}

// triesPerRound is how often an optimistic write is tried between two pauses:
// once with what was read, and once with what the answer to the first try holds.
const triesPerRound = 2

// untilUncontested runs round until it reports that the matter is settled or fails, all
// under one deadline. Those who compete for a key spread out by pausing between
// the rounds. A round begins by reading: what was read before a pause would be
// out of date after it, and a slow competitor would lose to a fast one for ever.
func (c *Client) untilUncontested(ctx context.Context, op, key string, round func(context.Context) (bool, error)) error {
	return c.withDeadline(ctx, op, key, func(ctx context.Context) error {
		for n := 1; ; n++ {
			settled, err := round(ctx)
			if settled {
				return err
			}
			if err != nil {
				return afterConflicts(ctx, n-1, err)
			}
			switch {
			case pause(ctx, c.closing, backoff(n)):
			case c.isClosed():
				return answered(op, key, ErrClosed)
			default:
				return answered(op, key, withKind(ErrConflict, context.Cause(ctx)))
			}
		}
	})
}

// afterConflicts returns the error of a try or a round which others have been in the way
// of n times before. If it came too late, they are the reason.
func afterConflicts(ctx context.Context, n int, err error) error {
	if n == 0 || !timeIsUp(ctx) {
		return err
	}
	if e, ok := err.(*Error); ok && !errors.Is(err, ErrConflict) { //nolint:errorlint // a request of this package, not one inside a caller's error
		e.Err = withKind(ErrConflict, e.Err)
	}
	return err
}
