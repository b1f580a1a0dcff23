package etcd

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// BulkPut stores all key-values atomically: in one transaction, one revision and
// one round trip. Of nothing it sends nothing and succeeds.
//
// The number of keys is not limited by the server's limit of operations (128 by
// default): above it the transaction is nested. What limits it is the size of
// one request, [Config.MaxRequestBytes]; past that it fails with [ErrTooLarge]
// and nothing is sent.
func (c *Client) BulkPut(ctx context.Context, kvs map[string][]byte, opts ...PutOption) error {
	const op = "bulk put"
	o := putOptionsOf(opts)
	ops := make([]*pb.RequestOp, 0, len(kvs))
	for key, value := range kvs {
		req, err := c.putRequest(key, value, o)
		if err != nil {
			return fail(op, key, err)
		}
		ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: req}})
	}
	_, err := c.bulk(ctx, request{op: op, write: true}, ops)
	return err
}

// BulkDelete deletes all keys atomically, as [Client.BulkPut] stores them, and
// returns how many of them existed.
func (c *Client) BulkDelete(ctx context.Context, keys []string) (int64, error) {
	const op = "bulk delete"
	ops, err := c.bulkOps(op, keys, func(stored []byte) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: stored}}}
	})
	if err != nil {
		return 0, err
	}
	responses, err := c.bulk(ctx, request{op: op, write: true}, ops)
	var deleted int64
	for _, r := range responses {
		deleted += r.GetResponseDeleteRange().GetDeleted()
	}
	return deleted, err
}

// BulkGet reads all keys at one revision, in one round trip. Keys that do not
// exist are not in the map. When values can't be decoded, the error joins a
// [*DecodeError] for each and the map holds the others.
func (c *Client) BulkGet(ctx context.Context, keys []string) (map[string][]byte, error) {
	const op = "bulk get"
	ops, err := c.bulkOps(op, keys, func(stored []byte) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: stored}}}
	})
	if err != nil {
		return nil, err
	}
	responses, err := c.bulk(ctx, request{op: op}, ops)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte, len(keys))
	var bad []error
	for _, r := range responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			converted, err := c.keyValue(ctx, kv, false)
			if err != nil {
				bad = append(bad, err)
				continue
			}
			out[converted.Key] = converted.Value
		}
	}
	return out, answered(op, "", errors.Join(bad...))
}

// GetMultiple is [Client.BulkGet] under the name that users of the Blueprint
// provider know.
func (c *Client) GetMultiple(ctx context.Context, keys []string) (map[string][]byte, error) {
	return c.BulkGet(ctx, keys)
}

// bulkOps returns an operation for each distinct key.
func (c *Client) bulkOps(op string, keys []string, opFor func(stored []byte) *pb.RequestOp) ([]*pb.RequestOp, error) {
	var ops []*pb.RequestOp
	seen := map[string]bool{}
	for _, key := range keys {
		if seen[key] {
			continue
		}
		seen[key] = true
		stored, err := c.stored(key)
		if err != nil {
			return nil, fail(op, key, err)
		}
		ops = append(ops, opFor(stored))
	}
	return ops, nil
}

// bulk sends operations in one transaction, nested as the limit demands, and
// returns their responses in order.
func (c *Client) bulk(ctx context.Context, r request, ops []*pb.RequestOp) ([]*pb.ResponseOp, error) {
	if len(ops) == 0 {
		if err := c.admit(ctx); err != nil {
			return nil, fail(r.op, r.key, err)
		}
		return nil, nil
	}
	levels, err := nestingFor(len(ops), c.cfg.MaxTxnOps)
	if err != nil {
		return nil, fail(r.op, r.key, err)
	}
	resp, err := c.sendTxn(ctx, r, &pb.TxnRequest{Success: nest(ops, levels)})
	if err != nil {
		return nil, err
	}
	return flatten(make([]*pb.ResponseOp, 0, len(ops)), resp.Responses), nil
}

// nestingFor returns how many operations each level of a transaction may hold so
// that n fit, with as few levels as possible.
//
// The server gives an inner level the limit less the operations of the levels
// around it (server/v3/etcdserver/api/v3rpc/key.go, checkTxnRequest), so that
// the sum over the levels is what counts and their product is what fits: at 128,
// two levels hold 64*64 = 4096 operations and three 43*43*42 = 77,658.
func nestingFor(n, limit int) ([]int, error) {
	most := limit
	for depth := 1; depth <= limit; depth++ {
		levels, capacity := make([]int, depth), 1
		for i := range levels {
			levels[i] = limit / depth
			if i < limit%depth {
				levels[i]++
			}
			capacity *= levels[i]
		}
		if capacity >= n {
			return levels, nil
		}
		if capacity < most {
			break
		}
		most = capacity
	}
	return nil, fmt.Errorf("%w: %d, at most %d fit when nested", ErrTooManyOps, n, most)
}

// nest arranges operations in a tree in which no level has more than levels
// says.
func nest(ops []*pb.RequestOp, levels []int) []*pb.RequestOp {
	if len(levels) == 1 {
		return ops
	}
	inner := 1
	for _, n := range levels[1:] {
		inner *= n
	}
	var out []*pb.RequestOp
	for len(ops) > 0 {
		n := min(inner, len(ops))
		txn := &pb.TxnRequest{Success: nest(ops[:n], levels[1:])}
		out = append(out, &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}})
		ops = ops[n:]
	}
	return out
}

// flatten appends the responses of a tree to out, in order.
func flatten(out, responses []*pb.ResponseOp) []*pb.ResponseOp {
	for _, r := range responses {
		if txn := r.GetResponseTxn(); txn != nil {
			out = flatten(out, txn.Responses)
			continue
		}
		out = append(out, r)
	}
	return out
}
