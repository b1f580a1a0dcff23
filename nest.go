package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// sendBulk sends operations in one transaction, nested as the limit demands, and
// returns their responses in order and the revision. Operations that are
// transactions hold one operation each.
//
// A server that was configured with a lower limit than this client refuses what is
// nested too loosely, before it looks at anything else. It is sent again then, more
// tightly, down to the lowest limit at which so many operations can be nested at
// all.
func (c *Client) sendBulk(ctx context.Context, r request, ops []*pb.RequestOp) (out []*pb.ResponseOp, revision int64, err error) {
	err = c.withDeadline(ctx, r.op, r.key, func(ctx context.Context) error {
		if len(ops) == 0 {
			return nil
		}
		configured, inner := c.cfg.MaxTxnOps, innerOps(ops)
		limit := c.nesting.begin(len(ops), configured, inner)
		for {
			levels, err := nestingFor(len(ops), limit-inner)
			if err != nil {
				return fail(r.op, r.key, err)
			}
			resp, err := c.sendTxn(ctx, r, &pb.TxnRequest{Success: nest(ops, levels)})
			if err == nil {
				c.nesting.learn(limit, configured)
				revision = resp.Header.GetRevision()
				out = flatten(make([]*pb.ResponseOp, 0, len(ops)), resp.Responses, len(levels))
				return nil
			}
			lower := max(limit/2, lowestLimit(len(ops))+inner)
			if !errors.Is(err, ErrTooManyOps) || MaybeApplied(err) || lower >= limit {
				return err
			}
			limit = lower
		}
	})
	return out, revision, err
}

// innerOps returns how many operations the operations hold themselves, at the most.
func innerOps(ops []*pb.RequestOp) int {
	if slices.ContainsFunc(ops, func(op *pb.RequestOp) bool { return op.GetRequestTxn() != nil }) {
		return 1
	}
	return 0
}

// nestingLimit is the limit of operations that a server was found to have, where it
// is lower than the configured one. The zero value knows of none. It is safe for
// concurrent use.
type nestingLimit struct{ lower atomic.Int64 }

// begin returns the limit to begin with. The configured one is tried again when the
// one that was found can't hold n operations: the server may have been changed.
func (l *nestingLimit) begin(n, configured, inner int) int {
	lower := int(l.lower.Load())
	if lower == 0 || lower < lowestLimit(n)+inner {
		return configured
	}
	return lower
}

// learn takes in that a request of this limit was accepted, after those of higher
// ones were refused, if they were tried.
func (l *nestingLimit) learn(limit, configured int) {
	if limit == configured {
		limit = 0
	}
	if l.lower.Load() != int64(limit) { // else the cache line is left alone
		l.lower.Store(int64(limit))
	}
}

// lowestLimit returns the lowest limit under which n operations can be nested.
func lowestLimit(n int) int {
	limit := 1
	for {
		if _, err := nestingFor(n, limit); err == nil {
			return limit
		}
		limit++
	}
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
		out = append(out, opOfTxn(txn))
		ops = ops[n:]
	}
	return out
}

// flatten appends the responses of a tree of so many levels to out, in order.
func flatten(out, responses []*pb.ResponseOp, levels int) []*pb.ResponseOp {
	if levels == 1 {
		return append(out, responses...)
	}
	for _, r := range responses {
		out = flatten(out, r.GetResponseTxn().GetResponses(), levels-1)
	}
	return out
}
