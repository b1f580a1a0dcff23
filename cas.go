package etcd

import (
	"context"
	"fmt"
)

// CompareAndSwap stores new under key if its value is old, and reports whether
// it did. A missing key has no value: the answer is false; use
// [Client.PutIfNotExists] to create one.
//
// It takes one round trip. With encryption or compression the value is compared
// here and the write bound to the revision that was compared: two round trips,
// and more only while the key keeps changing. No concurrent change is ever lost.
//
// Without [WithIgnoreLease] or [WithLease] the key is detached from its lease.
func (c *Client) CompareAndSwap(ctx context.Context, key string, old, new []byte, opts ...PutOption) (bool, error) {
	return c.swap(ctx, "compare and swap", key, Value(key).Equal(old), OpPut(key, new, opts...))
}

// CompareAndSwapRevision stores new under key if the key's mod revision is
// revision, and reports whether it did, in one round trip. Revision 0 means that
// the key must not exist. Unlike a comparison of values it also notices that a
// key was changed and changed back.
func (c *Client) CompareAndSwapRevision(ctx context.Context, key string, revision int64, new []byte, opts ...PutOption) (bool, error) {
	const op = "compare and swap"
	if revision < 0 {
		return false, fail(op, key, fmt.Errorf("%w: negative revision", ErrInvalidArgument))
	}
	return c.swap(ctx, op, key, ModRevision(key).Equal(revision), OpPut(key, new, opts...))
}

// CompareAndDelete deletes key if its value is old, and reports whether it did.
// Its cost is that of [Client.CompareAndSwap].
func (c *Client) CompareAndDelete(ctx context.Context, key string, old []byte) (bool, error) {
	return c.swap(ctx, "compare and delete", key, Value(key).Equal(old), OpDelete(key))
}

// CompareAndDeleteRevision deletes key if its mod revision is revision, and
// reports whether it did, in one round trip. Revision 0 is refused: it is that of
// a key which does not exist.
func (c *Client) CompareAndDeleteRevision(ctx context.Context, key string, revision int64) (bool, error) {
	const op = "compare and delete"
	if revision <= 0 {
		return false, fail(op, key, fmt.Errorf("%w: revision %d", ErrInvalidArgument, revision))
	}
	return c.swap(ctx, op, key, ModRevision(key).Equal(revision), OpDelete(key))
}

func (c *Client) swap(ctx context.Context, op, key string, cond Condition, then Op) (bool, error) {
	res, err := c.commit(ctx, op, key, c.Txn().If(cond).Then(then))
	if err != nil {
		return false, err
	}
	return res.Succeeded, nil
}

// Update replaces the value of key by what f makes of it, and no concurrent
// change is lost: f is called again with the new value when the key changed in
// between. old is nil when the key does not exist. When f returns an error,
// nothing is written and Update returns it; when f returns a nil value, the key
// is deleted. The key keeps its lease.
//
// It takes two round trips, and one or two more for each concurrent change. It
// ends with [ErrConflict] when the key still keeps changing at the deadline. A
// lost answer is reported (see [MaybeApplied]) and never answered by applying f
// twice.
func (c *Client) Update(ctx context.Context, key string, f func(old []byte) ([]byte, error)) error {
	const op = "update"
	if f == nil {
		return fail(op, key, fmt.Errorf("%w: nil function", ErrInvalidArgument))
	}
	return c.settle(ctx, op, key, func(ctx context.Context) (bool, error) {
		found, err := c.commit(ctx, op, key, c.Txn().Then(OpGet(key)))
		for n := 0; err == nil && found != nil && n < triesPerRound; n++ {
			found, err = c.tryUpdate(ctx, key, found, f)
		}
		return found == nil, err
	})
}

// tryUpdate applies f if the key still is as it was found. If not, it returns
// how the key is found now, and nil in all other cases.
func (c *Client) tryUpdate(ctx context.Context, key string, found *TxnResult, f func([]byte) ([]byte, error)) (*TxnResult, error) {
	const op = "update"
	if err := found.Results[0].Err; err != nil {
		return nil, answered(op, key, err)
	}
	current, exists := found.KV(key)
	value, err := f(current.Value)
	if err != nil || !exists && value == nil {
		return nil, err
	}
	res, err := c.commit(ctx, op, key, c.Txn().
		If(ModRevision(key).Equal(current.ModRevision)).
		Then(updateOp(key, value, exists)).
		Else(OpGet(key)))
	if err != nil || res.Succeeded {
		return nil, err
	}
	return res, nil
}

func updateOp(key string, value []byte, exists bool) Op {
	switch {
	case value == nil:
		return OpDelete(key)
	case exists:
		return OpPut(key, value, WithIgnoreLease())
	default:
		return OpPut(key, value)
	}
}

// triesPerRound is how often an optimistic write is tried between two pauses:
// once with what was read, and once with what the answer to the first try holds.
const triesPerRound = 2

// settle runs round until it reports that the matter is settled or fails, all
// under one deadline. Those who compete for a key spread out by pausing between
// the rounds. A round begins by reading: what was read before a pause would be
// out of date after it, and a slow competitor would lose to a fast one for ever.
func (c *Client) settle(ctx context.Context, op, key string, round func(context.Context) (bool, error)) error {
	return c.withDeadline(ctx, op, key, func(ctx context.Context) error {
		for n := 1; ; n++ {
			settled, err := round(ctx)
			if settled || err != nil {
				return err
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
