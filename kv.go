package etcd

import (
	"context"

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
	o := putOptionsOf(opts)
	if o.guarded {
		return c.putGuarded(ctx, key, value, o)
	}
	req, sealed, err := c.putRequest(ctx, key, value, o)
	if err == nil {
		err = c.checkSize(req)
	}
	if err != nil {
		return fail("put", key, err)
	}
	_, err = do(ctx, c, request{op: "put", key: key, write: true, seals: sealed}, c.rpc.put, req)
	return err
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
