package etcd

import (
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// innerOps returns how many operations the operations hold themselves, at the most.
func innerOps(ops []*pb.RequestOp) int {
	if slices.ContainsFunc(ops, func(op *pb.RequestOp) bool { return op.GetRequestTxn() != nil }) {
		return 1
	}
	return 0
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
