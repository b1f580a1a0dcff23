package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// Put stores value under key, in one round trip. A nil value means an empty one. Without
// options it detaches the key from its lease.
//
// When it fails, [MaybeApplied] reports whether the value may have been stored.
func (c *Client) Put(ctx context.Context, key string, value []byte, opts ...PutOption) error {
	o, err := putOptionsOf(opts)
	if err == nil {
		err = o.check()
	}
	if err != nil {
		return fail("put", key, err)
	}
	switch {
	case len(o.conditions) > 0 && o.guarded:
		return fail("put", key, fmt.Errorf("%w: WithGuard and WithCondition", ErrInvalidArgument))
	case len(o.conditions) > 0:
		return c.putIf(ctx, request{op: "put", key: key}, value, o)
	case o.guarded:
		return c.putGuarded(ctx, key, value, o)
	}
	req, sealed, err := c.putRequest(ctx, key, value, o)
	if err == nil {
		err = c.rpc.CheckSize(req)
	}
	if err != nil {
		return fail("put", key, err)
	}
	return c.putNow(ctx, request{op: "put", key: key, write: true, seals: sealed, joins: true}, req, o)
}

// putNow sends a put, and tells the caller of its result.
func (c *Client) putNow(ctx context.Context, r request, req *pb.PutRequest, o putOptions) error {
	resp, err := c.put(ctx, r, req)
	if err == nil {
		o.tell(ctx, c.codec, resp.Header, resp.PrevKv)
	}
	return err
}

// putIf is Put under conditions.
func (c *Client) putIf(ctx context.Context, r request, value []byte, o putOptions) error {
	_, err := c.commitIf(ctx, r, Op{kind: kindPut, key: r.key, value: value, put: o})
	return err
}

// deleteIf commits a deletion under its conditions.
func (c *Client) deleteIf(ctx context.Context, r request, op Op) (int64, error) {
	res, err := c.commitIf(ctx, r, op)
	if err != nil {
		return 0, err
	}
	return res.Results[0].Deleted, nil
}

// commitIf commits an operation under its conditions, and tells the caller of its result.
func (c *Client) commitIf(ctx context.Context, r request, op Op) (*TxnResult, error) {
	w := op.takeResult()
	r.joins = true
	res, err := c.commit(ctx, r, c.Txn().If(w.conditions...).Then(op))
	if err == nil && !res.Succeeded {
		err = r.answered(ErrConditionFailed)
	}
	if err == nil {
		w.tellTxn(res)
	}
	return res, err
}

// Get returns the value of key, or [ErrKeyNotFound], in one round trip. An empty value is
// not nil. The read is linearizable unless [WithSerializable] is given. The caller owns
// the value.
func (c *Client) Get(ctx context.Context, key string, opts ...GetOption) ([]byte, error) {
	kv, err := c.getKV(ctx, request{op: "get", key: key}, opts)
	return kv.Value, err
}

// GetKV is [Client.Get] with the key's revisions, version and lease. When the value can't
// be decoded, the error is a [*DecodeError] and the rest is returned.
func (c *Client) GetKV(ctx context.Context, key string, opts ...GetOption) (KeyValue, error) {
	return c.getKV(ctx, request{op: "get", key: key}, opts)
}

// GetWithRevision is [Client.Get] with the key's mod revision, for
// [Client.CompareAndSwapRevision].
func (c *Client) GetWithRevision(ctx context.Context, key string, opts ...GetOption) ([]byte, int64, error) {
	kv, err := c.getKV(ctx, request{op: "get", key: key}, opts)
	return kv.Value, kv.ModRevision, err
}

func (c *Client) getKV(ctx context.Context, r request, opts []GetOption) (KeyValue, error) {
	o, err := getOptionsOf(opts)
	if err != nil {
		return KeyValue{}, r.fail(err)
	}
	stored, err := c.stored(r.key)
	if err != nil {
		return KeyValue{}, r.fail(err)
	}
	r.joins = true
	resp, err := do(ctx, c.conn, r, c.rpc.Get, o.rangeRequest(keys.Range{Start: stored}))
	if err != nil {
		return KeyValue{}, err
	}
	if len(resp.Kvs) == 0 {
		return KeyValue{}, r.answered(ErrKeyNotFound)
	}
	kv, err := c.keyValue(ctx, resp.Kvs[0], false)
	if err != nil {
		return kv, r.answered(err)
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
	req := o.rangeRequest(keys.Range{Start: stored})
	req.CountOnly = true
	resp, err := do(ctx, c.conn, request{op: "exists", key: key, joins: true}, c.rpc.Get, req)
	return err == nil && resp.Count > 0, err
}

// Delete deletes key, in one round trip, and returns how many keys were deleted: 1, or 0
// if the key did not exist, which is no error.
func (c *Client) Delete(ctx context.Context, key string, opts ...DeleteOption) (int64, error) {
	const op = "delete"
	o, err := deleteOptionsOf(opts)
	if err == nil {
		err = o.check()
	}
	if err != nil {
		return 0, fail(op, key, err)
	}
	if len(o.conditions) > 0 {
		return c.deleteIf(ctx, request{op: op, key: key}, Op{kind: kindDelete, key: key, delete: o})
	}
	stored, err := c.stored(key)
	if err != nil {
		return 0, fail(op, key, err)
	}
	return c.deleteRange(ctx, request{op: op, key: key, joins: true}, keys.Range{Start: stored}, o)
}

func (c *Client) deleteRange(ctx context.Context, r request, rng keys.Range, o deleteOptions) (int64, error) {
	req := &pb.DeleteRangeRequest{Key: rng.Start, RangeEnd: rng.End, PrevKv: o.prevKV}
	if err := c.rpc.CheckSize(req); err != nil {
		return 0, r.fail(err)
	}
	r.write = true
	resp, err := do(ctx, c.conn, r, c.rpc.Delete, req)
	if err != nil {
		return 0, err
	}
	var prev *mvccpb.KeyValue
	if len(resp.PrevKvs) > 0 {
		prev = resp.PrevKvs[0]
	}
	o.tell(ctx, c.codec, resp.Header, prev)
	return resp.Deleted, nil
}
