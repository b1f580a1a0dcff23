package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// fail returns the error of a call that ended before it came to a request.
func fail(op, key string, err error) error {
	return &Error{Op: op, Key: key, Err: err}
}

// Put stores value under key, in one round trip. A nil value is an empty one.
// Without options the key is detached from any lease that it had.
//
// When it fails, [MaybeApplied] tells whether the value may have been stored.
func (c *Client) Put(ctx context.Context, key string, value []byte, opts ...PutOption) error {
	_, err := c.put(ctx, "put", key, value, putOptionsOf(opts))
	return err
}

func (c *Client) put(ctx context.Context, op, key string, value []byte, o putOptions) (*pb.PutResponse, error) {
	req, err := c.putRequest(key, value, o)
	if err == nil {
		err = c.checkSize(req)
	}
	if err != nil {
		return nil, fail(op, key, err)
	}
	return do(ctx, c, request{op: op, key: key, write: true}, c.rpc.put, req)
}

// Get returns the value of key, or [ErrKeyNotFound], in one round trip. An empty
// value is not nil. The read is linearizable unless [WithSerializable] is given.
// The caller owns the value.
func (c *Client) Get(ctx context.Context, key string, opts ...GetOption) ([]byte, error) {
	kv, err := c.getKV(ctx, "get", key, opts)
	return kv.Value, err
}

// GetKV is [Client.Get] with the key's revisions, version and lease. When the
// value can't be decoded, the error is a [*DecodeError] and all but the value is
// returned.
func (c *Client) GetKV(ctx context.Context, key string, opts ...GetOption) (KeyValue, error) {
	return c.getKV(ctx, "get", key, opts)
}

// GetWithRevision is [Client.Get] with the key's mod revision, as
// [Client.CompareAndSwapRevision] wants it.
func (c *Client) GetWithRevision(ctx context.Context, key string, opts ...GetOption) ([]byte, int64, error) {
	kv, err := c.getKV(ctx, "get", key, opts)
	return kv.Value, kv.ModRevision, err
}

func (c *Client) getKV(ctx context.Context, op, key string, opts []GetOption) (KeyValue, error) {
	o, err := getOptionsOf(opts)
	if err != nil {
		return KeyValue{}, fail(op, key, err)
	}
	stored, err := c.stored(key)
	if err != nil {
		return KeyValue{}, fail(op, key, err)
	}
	resp, err := do(ctx, c, request{op: op, key: key}, c.rpc.get, o.rangeRequest(keyRange{start: stored}))
	if err != nil {
		return KeyValue{}, err
	}
	if len(resp.Kvs) == 0 {
		return KeyValue{}, &Error{Op: op, Key: key, Sent: true, Err: ErrKeyNotFound}
	}
	kv, err := c.keyValue(ctx, resp.Kvs[0], false)
	if err != nil {
		return kv, &Error{Op: op, Key: key, Sent: true, Err: err}
	}
	return kv, nil
}

// Exists reports whether key exists, in one round trip and without reading its
// value.
func (c *Client) Exists(ctx context.Context, key string, opts ...GetOption) (bool, error) {
	o, err := getOptionsOf(opts)
	if err != nil {
		return false, fail("exists", key, err)
	}
	stored, err := c.stored(key)
	if err != nil {
		return false, fail("exists", key, err)
	}
	req := o.rangeRequest(keyRange{start: stored})
	req.CountOnly = true
	resp, err := do(ctx, c, request{op: "exists", key: key}, c.rpc.get, req)
	return err == nil && resp.Count > 0, err
}

// Delete deletes key, in one round trip, and returns how many keys were deleted:
// 1, or 0 when the key did not exist, which is no error.
func (c *Client) Delete(ctx context.Context, key string) (int64, error) {
	stored, err := c.stored(key)
	if err != nil {
		return 0, fail("delete", key, err)
	}
	return c.deleteRange(ctx, "delete", key, keyRange{start: stored})
}

func (c *Client) deleteRange(ctx context.Context, op, key string, r keyRange) (int64, error) {
	req := &pb.DeleteRangeRequest{Key: r.start, RangeEnd: r.end}
	if err := c.checkSize(req); err != nil {
		return 0, fail(op, key, err)
	}
	resp, err := do(ctx, c, request{op: op, key: key, write: true}, c.rpc.delete, req)
	if err != nil {
		return 0, err
	}
	return resp.Deleted, nil
}

// PutIfNotExists stores value under key if the key does not exist, in one round
// trip, and reports whether it did.
func (c *Client) PutIfNotExists(ctx context.Context, key string, value []byte, opts ...PutOption) (bool, error) {
	const op = "put if not exists"
	res, err := c.commit(ctx, op, key, c.Txn().If(Missing(key)).Then(OpPut(key, value, opts...)))
	if err != nil {
		return false, err
	}
	return res.Succeeded, nil
}

// MoveKey renames a key, value and lease with it, atomically: other clients see
// either the old key or the new one. The value is encrypted anew for its new
// place. It takes two round trips, more while the keys keep changing.
//
// It fails with [ErrKeyNotFound] when from does not exist, with [ErrKeyExists]
// when to does, and with [ErrConflict] when the keys still keep changing at the
// deadline; nothing is changed then.
func (c *Client) MoveKey(ctx context.Context, from, to string) error {
	const op = "move"
	if from == to {
		return fail(op, from, errors.Join(ErrInvalidArgument, ErrKeyExists))
	}
	if _, err := c.stored(to); err != nil {
		return fail(op, to, err)
	}
	return c.settle(ctx, op, from, func(ctx context.Context) (bool, error) {
		found, err := c.commit(ctx, op, from, c.Txn().Then(moveReads(from, to)...))
		for n := 0; err == nil && found != nil && n < triesPerRound; n++ {
			found, err = c.tryMove(ctx, from, to, found)
		}
		return found == nil, err
	})
}

// moveReads reads what a move has to know: all of the source, and whether the
// destination exists.
func moveReads(from, to string) []Op {
	exists := OpGet(to)
	exists.keysOnly = true
	return []Op{OpGet(from), exists}
}

// tryMove moves a key if it still is as it was found. If not, it returns how it
// is found now, and nil in all other cases.
func (c *Client) tryMove(ctx context.Context, from, to string, found *TxnResult) (*TxnResult, error) {
	const op = "move"
	source, target := found.Results[0], found.Results[1]
	switch {
	case source.Count == 0:
		return nil, answered(op, from, ErrKeyNotFound)
	case target.Count > 0:
		return nil, answered(op, to, ErrKeyExists)
	case source.Err != nil:
		return nil, answered(op, from, source.Err)
	}
	kv := source.KVs[0]
	res, err := c.commit(ctx, op, from, c.Txn().
		If(ModRevision(from).Equal(kv.ModRevision), Missing(to)).
		Then(OpPut(to, kv.Value, WithLease(kv.Lease)), OpDelete(from)).
		Else(moveReads(from, to)...))
	if err != nil || res.Succeeded {
		return nil, err
	}
	return res, nil
}
