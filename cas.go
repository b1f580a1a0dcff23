package etcd

import (
	"bytes"
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// CompareAndSwap stores new under key if its value is old, and reports whether it did.
// For a missing key it returns false; use [Client.PutIfNotExists] to create one.
//
// It takes one round trip. With encryption or compression the client compares the value
// and binds the write to the revision that it compared: two round trips, and more only
// while the key keeps changing (and see [Txn]). No concurrent change is ever lost.
//
// Without [WithIgnoreLease] or [WithLease] it detaches the key from its lease.
func (c *Client) CompareAndSwap(ctx context.Context, key string, old, new []byte, opts ...PutOption) (bool, error) {
	return c.swap(ctx, request{op: "compare and swap", key: key}, Value(key).Equal(old), OpPut(key, new, opts...))
}

// CompareAndSwapRevision stores new under key if the key's mod revision is revision, and
// reports whether it did, in one round trip. Revision 0 means that the key must not
// exist. Unlike a comparison of values it also notices when a key was changed and changed
// back.
func (c *Client) CompareAndSwapRevision(ctx context.Context, key string, revision int64, new []byte, opts ...PutOption) (bool, error) {
	const op = "compare and swap"
	if revision < 0 {
		return false, fail(op, key, fmt.Errorf("%w: negative revision", ErrInvalidArgument))
	}
	return c.swap(ctx, request{op: op, key: key}, ModRevision(key).Equal(revision), OpPut(key, new, opts...))
}

// CompareAndDelete deletes key if its value is old, and reports whether it did. It costs
// as much as [Client.CompareAndSwap].
func (c *Client) CompareAndDelete(ctx context.Context, key string, old []byte, opts ...DeleteOption) (bool, error) {
	return c.swap(ctx, request{op: "compare and delete", key: key}, Value(key).Equal(old), OpDelete(key, opts...))
}

// CompareAndDeleteRevision deletes key if its mod revision is revision, and reports
// whether it did, in one round trip. Revision 0 is refused: it belongs to a key that does
// not exist.
func (c *Client) CompareAndDeleteRevision(ctx context.Context, key string, revision int64, opts ...DeleteOption) (bool, error) {
	const op = "compare and delete"
	if revision <= 0 {
		return false, fail(op, key, fmt.Errorf("%w: revision %d", ErrInvalidArgument, revision))
	}
	return c.swap(ctx, request{op: op, key: key}, ModRevision(key).Equal(revision), OpDelete(key, opts...))
}

func (c *Client) swap(ctx context.Context, r request, cond Condition, then Op) (bool, error) {
	w := then.takeResult()
	if err := w.check(); err != nil {
		return false, r.fail(err)
	}
	r.joins = true
	res, err := c.commit(ctx, r, c.Txn().If(cond).Then(w.under(c, then)))
	if err == nil {
		res, err = w.met(r, res)
	}
	if err != nil {
		return false, err
	}
	w.tellTxn(res)
	return res.Succeeded, nil
}

// PutIfChanged stores value under key unless that is its value already, and reports
// whether it did: watchers are not woken for nothing, and the mod revision stays that of
// the last change. It takes one round trip if nothing has changed, otherwise two, and one
// or two more for each concurrent change. A stored value that can't be decoded is an
// error, see [*DecodeError].
//
// It also writes if the value stays but the lease would change: without [WithIgnoreLease]
// or [WithLease] the key is detached from its lease. It fails with [ErrConflict] if the
// key still keeps changing at the deadline; then nothing is changed, unless
// [MaybeApplied] reports true.
func (c *Client) PutIfChanged(ctx context.Context, key string, value []byte, opts ...PutOption) (bool, error) {
	const op = "put if changed"
	put, written := OpPut(key, value, opts...), false
	w := put.takeResult()
	// Refuse before anything is read what would be refused later.
	err := put.bad
	if err == nil {
		err = w.check()
	}
	if err == nil {
		var req *pb.PutRequest
		if req, _, err = c.putRequest(ctx, key, value, put.put); err == nil {
			err = c.rpc.CheckSize(req)
		}
	}
	if err != nil {
		return false, fail(op, key, err)
	}
	err = c.optimistic(ctx, request{op: op, key: key}, w, []Op{OpGet(key)}, func(found *TxnResult) (*Txn, error) {
		if err := found.Results[0].Err; err != nil {
			return nil, answered(op, key, err)
		}
		current, exists := found.KV(key)
		sameLease := put.put.ignoreLease || put.put.lease == current.Lease
		written = !exists || !sameLease || !bytes.Equal(current.Value, value)
		if !written {
			return nil, nil
		}
		return c.Txn().If(ModRevision(key).Equal(current.ModRevision)).Then(w.under(c, put)), nil
	})
	return written && err == nil, err
}

// Update replaces the value of key by what f makes of it, and loses no concurrent change:
// if the key changed in between, it calls f again with the new value. old is nil if the
// key does not exist. If f returns an error, nothing is written and Update returns that
// error; if f returns a nil value, the key is deleted. The key keeps its lease.
//
// It takes two round trips, and one or two more for each concurrent change. It fails with
// [ErrConflict] if the key still keeps changing at the deadline. A lost answer is
// reported (see [MaybeApplied]) and never leads to applying f twice.
func (c *Client) Update(ctx context.Context, key string, f func(old []byte) ([]byte, error), opts ...UpdateOption) error {
	const op = "update"
	w, err := updateOptionsOf(opts)
	if err != nil {
		return fail(op, key, err)
	}
	if f == nil {
		return fail(op, key, errNilFunction)
	}
	return c.optimistic(ctx, request{op: op, key: key}, w, []Op{OpGet(key)}, func(found *TxnResult) (*Txn, error) {
		if err := found.Results[0].Err; err != nil {
			return nil, answered(op, key, err)
		}
		current, exists := found.KV(key)
		value, err := f(current.Value)
		if err != nil || !exists && value == nil {
			return nil, err
		}
		return c.Txn().If(ModRevision(key).Equal(current.ModRevision)).Then(w.under(c, updateOp(key, value, exists, w.prevKV))), nil
	})
}

func updateOp(key string, value []byte, exists, prevKV bool) Op {
	op := Op{kind: kindPut, key: key, value: value}
	if value == nil {
		op.kind = kindDelete
	}
	op.put.ignoreLease = exists
	op.put.prevKV, op.delete.prevKV = prevKV, prevKV
	return op
}

// PutIfNotExists stores value under key if the key does not exist, and reports whether it
// did, in one round trip (and see [Txn]).
func (c *Client) PutIfNotExists(ctx context.Context, key string, value []byte, opts ...PutOption) (bool, error) {
	return c.swap(ctx, request{op: "put if not exists", key: key}, Missing(key), OpPut(key, value, opts...))
}
