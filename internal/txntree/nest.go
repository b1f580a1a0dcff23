package txntree

import (
	"fmt"
	"slices"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/errs"
)

// InnerOps returns how many operations each of ops holds itself, at most.
func InnerOps(ops []*pb.RequestOp) int {
	if slices.ContainsFunc(ops, func(op *pb.RequestOp) bool { return op.GetRequestTxn() != nil }) {
		return 1
	}
	return 0
}

// LevelsFor returns how many operations each level of a transaction may hold so that n
// fit, with as few levels as possible.
//
// The server gives an inner level the limit less the operations of the levels around it
// (server/v3/etcdserver/api/v3rpc/key.go, checkTxnRequest). So the sum over the levels
// counts against the limit, and their product is the capacity: at 128, two levels hold
// 64*64 = 4096 operations and three 43*43*42 = 77,658.
func LevelsFor(n, limit int) ([]int, error) {
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
	return nil, fmt.Errorf("%w: %d, at most %d fit when nested", errs.ErrTooManyOps, n, most)
}

// Nest arranges operations in a tree in which each level holds at most as many as levels
// says.
func Nest(ops []*pb.RequestOp, levels []int) []*pb.RequestOp {
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
		txn := &pb.TxnRequest{Success: Nest(ops[:n], levels[1:])}
		out = append(out, Txn(txn))
		ops = ops[n:]
	}
	return out
}

// Flatten appends the responses of a tree with this many levels to out, in order.
func Flatten(out, responses []*pb.ResponseOp, levels int) []*pb.ResponseOp {
	if levels == 1 {
		return append(out, responses...)
	}
	for _, r := range responses {
		out = Flatten(out, r.GetResponseTxn().GetResponses(), levels-1)
	}
	return out
}

// Limit is the limit of operations that a server turned out to have, if it is lower than
// the configured one. The zero value knows of none. It is safe for concurrent use.
type Limit struct{ lower atomic.Int64 }

// Begin returns the limit to begin with. It tries the configured one again if the one
// that was found can't hold n operations: the server may have been changed.
func (l *Limit) Begin(n, configured, inner int) int {
	lower := int(l.lower.Load())
	if lower == 0 || lower < LowestLimit(n)+inner {
		return configured
	}
	return lower
}

// Learn records that a request with this limit was accepted, after higher limits, if
// tried, were refused.
func (l *Limit) Learn(limit, configured int) {
	if limit == configured {
		limit = 0
	}
	if l.lower.Load() != int64(limit) { // don't touch the cache line for nothing
		l.lower.Store(int64(limit))
	}
}

// LowestLimit returns the lowest limit under which n operations can be nested.
func LowestLimit(n int) int {
	limit := 1
	for {
		if _, err := LevelsFor(n, limit); err == nil {
			return limit
		}
		limit++
	}
}
