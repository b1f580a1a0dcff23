package etcd

import (
	"context"
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
	return c.swap(ctx, "compare and swap", key, ModRevision(key).Equal(revision), OpPut(key, new, opts...))
}

// CompareAndDelete deletes key if its value is old, and reports whether it did.
// Its cost is that of [Client.CompareAndSwap].
func (c *Client) CompareAndDelete(ctx context.Context, key string, old []byte) (bool, error) {
	return c.swap(ctx, "compare and delete", key, Value(key).Equal(old), OpDelete(key))
}

// CompareAndDeleteRevision deletes key if its mod revision is revision, and
// reports whether it did, in one round trip.
func (c *Client) CompareAndDeleteRevision(ctx context.Context, key string, revision int64) (bool, error) {
	return c.swap(ctx, "compare and delete", key, ModRevision(key).Equal(revision), OpDelete(key))
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
// It takes two round trips, and one more for each concurrent change. It ends with
// [ErrConflict] when the key still keeps changing at the deadline. A lost answer
// is reported (see [MaybeApplied]) and never answered by applying f twice.
func (c *Client) Update(ctx context.Context, key string, f func(old []byte) ([]byte, error)) error {
	const op = "update"
	return c.withDeadline(ctx, op, key, func(ctx context.Context) error {
		res, err := c.commit(ctx, op, key, c.Txn().Then(OpGet(key)))
		for n := 1; err == nil; n++ {
			if res.Results[0].Err != nil {
				return answered(op, key, res.Results[0].Err)
			}
			current, exists := res.KV(key)
			value, ferr := f(current.Value)
			if ferr != nil {
				return ferr
			}
			if !exists && value == nil {
				return nil
			}
			res, err = c.commit(ctx, op, key, c.Txn().
				If(ModRevision(key).Equal(current.ModRevision)).
				Then(updateOp(key, value, exists)).
				Else(OpGet(key)))
			if err != nil || res.Succeeded {
				return err
			}
			if !pause(ctx, c.closing, backoff(n)) {
				return &Error{Op: op, Key: key, Sent: true, Err: withKind(ErrConflict, context.Cause(ctx))}
			}
		}
		return err
	})
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
