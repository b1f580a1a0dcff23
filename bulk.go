package etcd

import (
	"context"
	"errors"
	"maps"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/rpc"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// BulkPut stores all key-values atomically: in one transaction, one revision and one
// round trip. An empty map sends nothing and returns nil.
//
// The server's limit of operations (128 by default) does not limit the number of keys:
// above it the transaction is nested. The limit is the size of one request,
// [Config.MaxRequestBytes]; above it BulkPut fails with [ErrTooLarge] and sends nothing.
// If a server's limit of operations turns out to be lower than [Config.MaxTxnOps],
// BulkPut takes further round trips until the server accepts the nesting; the client
// remembers it.
//
// [InChunks] stores any number of key-values, in the order of the keys, but not
// atomically: then the error is a [*BulkError], unless an argument was refused.
func (c *Client) BulkPut(ctx context.Context, kvs map[string][]byte, opts ...BulkPutOption) error {
	const op = "bulk put"
	o, err := bulkOptionsOf(opts, BulkPutOption.applyBulkPut)
	if err != nil {
		return fail(op, "", err)
	}
	keys := slices.Collect(maps.Keys(kvs))
	if o.chunked {
		slices.Sort(keys)
	}
	b, err := c.newBulk(request{op: op, write: true}, keys, func(key string) (*pb.RequestOp, *sealedPut, error) {
		return c.sealedOp(ctx, key, kvs[key], o.put)
	})
	if err == nil {
		_, err = b.send(ctx, o)
	}
	return err
}

// BulkDelete deletes all keys atomically, like [Client.BulkPut], and returns how many of
// them existed. With [InChunks] it deletes the keys in the given order, and returns how
// many were certainly deleted.
func (c *Client) BulkDelete(ctx context.Context, keys []string, opts ...BulkDeleteOption) (int64, error) {
	const op = "bulk delete"
	o, err := bulkOptionsOf(opts, BulkDeleteOption.applyBulkDelete)
	if err != nil {
		return 0, fail(op, "", err)
	}
	b, err := c.newBulk(request{op: op, write: true}, keys, func(key string) (*pb.RequestOp, *sealedPut, error) {
		stored, err := c.stored(key)
		return txntree.Delete(&pb.DeleteRangeRequest{Key: stored}), nil, err
	})
	if err != nil {
		return 0, err
	}
	responses, err := b.send(ctx, o)
	var deleted int64
	for _, r := range responses {
		deleted += r.GetResponseDeleteRange().GetDeleted()
	}
	return deleted, err
}

// BulkGet reads all keys at one revision, in one round trip. Keys that do not exist are
// not in the map. If values can't be decoded, the error joins a [*DecodeError] for each
// and the map holds the others.
//
// With [InChunks] it still reads at one revision, which takes one more round trip first.
// If that revision is compacted during the call, the error is [ErrCompacted]. If the call
// fails, the map holds what was read.
func (c *Client) BulkGet(ctx context.Context, keys []string, opts ...BulkOption) (map[string][]byte, error) {
	const op = "bulk get"
	o, err := bulkOptionsOf(opts, BulkOption.applyBulk)
	if err != nil {
		return nil, fail(op, "", err)
	}
	b, err := c.newBulk(request{op: op}, keys, func(key string) (*pb.RequestOp, *sealedPut, error) {
		stored, err := c.stored(key)
		return txntree.Range(&pb.RangeRequest{Key: stored}), nil, err
	})
	if err == nil && o.chunked {
		err = b.pin(ctx)
	}
	if err != nil {
		return nil, err
	}
	responses, err := b.send(ctx, o)
	if err != nil && !o.chunked {
		return nil, err
	}
	kvs := make([]*mvccpb.KeyValue, 0, len(responses))
	for _, r := range responses {
		kvs = append(kvs, r.GetResponseRange().GetKvs()...)
	}
	converted, bad := c.keyValues(ctx, kvs)
	out := make(map[string][]byte, len(converted))
	for _, kv := range converted {
		out[kv.Key] = kv.Value
	}
	if err == nil {
		return out, answered(op, "", bad)
	}
	return out, errors.Join(err, bad)
}

// GetMultiple is [Client.BulkGet] under the name that users of the Blueprint provider
// know.
func (c *Client) GetMultiple(ctx context.Context, keys []string) (map[string][]byte, error) {
	return c.BulkGet(ctx, keys)
}

// bulk is one bulk call: an operation for each distinct key, in order.
type bulk struct {
	client  *Client
	request request
	keys    []string
	ops     []*pb.RequestOp
	seals   []*sealedPut // of the operations; nil for those that encrypt nothing
}

func (c *Client) newBulk(r request, keys []string, opFor func(key string) (*pb.RequestOp, *sealedPut, error)) (*bulk, error) {
	b := &bulk{client: c, request: r}
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		if seen[key] {
			continue
		}
		seen[key] = true
		op, sealed, err := opFor(key)
		if err != nil {
			return nil, fail(r.op, key, err)
		}
		b.keys, b.ops, b.seals = append(b.keys, key), append(b.ops, op), append(b.seals, sealed)
	}
	return b, nil
}

// send sends the operations and returns the responses to those that were applied.
func (b *bulk) send(ctx context.Context, o bulkOptions) ([]*pb.ResponseOp, error) {
	if o.chunked {
		responses, revision, err := b.sendChunks(ctx, o.chunks)
		o.put.tellRevision(revision)
		return responses, err
	}
	r := b.request
	for _, sealed := range b.seals {
		r.seals = sealed.link(r.seals)
	}
	responses, revision, err := b.client.sendBulk(ctx, r, b.ops)
	o.put.tellRevision(revision)
	return responses, err
}

// pin binds reads to the current revision of the store.
func (b *bulk) pin(ctx context.Context) error {
	if len(b.ops) == 0 {
		return nil
	}
	first := &pb.RangeRequest{Key: b.ops[0].GetRequestRange().Key, CountOnly: true}
	resp, err := do(ctx, b.client.conn, b.request, b.client.rpc.Get, first)
	if err != nil {
		return err
	}
	if resp.Header.GetRevision() == 0 {
		return answered(b.request.op, "", rpc.Describe(ErrServer, rpc.ErrIncomplete))
	}
	b.request.pinned = true
	for _, op := range b.ops {
		op.GetRequestRange().Revision = resp.Header.GetRevision()
	}
	return nil
}
