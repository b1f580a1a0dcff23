package txntree

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/errs"
)

// serverAccepts is the server's rule: an inner level may hold the limit less the
// operations of the levels around it.
func serverAccepts(ops []*pb.RequestOp, limit int) error {
	if len(ops) > limit {
		return fmt.Errorf("%d operations where %d are allowed", len(ops), limit)
	}
	for _, op := range ops {
		if txn := op.GetRequestTxn(); txn != nil {
			if err := serverAccepts(txn.Success, limit-len(ops)); err != nil {
				return err
			}
		}
	}
	return nil
}

// answerOf is what the server answers to operations: their keys, nested alike.
func answerOf(ops []*pb.RequestOp) []*pb.ResponseOp {
	out := make([]*pb.ResponseOp, len(ops))
	for i, op := range ops {
		if txn := op.GetRequestTxn(); txn != nil {
			out[i] = &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{Responses: answerOf(txn.Success)}}}
			continue
		}
		out[i] = &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{
			Deleted: int64(len(op.GetRequestDeleteRange().Key)),
		}}}
	}
	return out
}

func TestNestedOperationsFitAndKeepTheirOrder(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 2, 3, 4, 5, 6, 7, 10, 16, 127, 128, 129, 1000} {
		for _, n := range []int{1, 2, 3, 4, 5, 9, 10, 16, 27, 28, 127, 128, 129, 130, 1000, 4096, 4097, 20_000} {
			levels, err := LevelsFor(n, limit)
			if err != nil {
				require.ErrorIs(t, err, errs.ErrTooManyOps)
				continue
			}
			ops := make([]*pb.RequestOp, n)
			for i := range ops {
				// The length of the key is what tells an operation from the next.
				ops[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: make([]byte, i%7)}}}
			}
			tree := Nest(ops, levels)
			require.NoError(t, serverAccepts(tree, limit), "%d in %d: %v", n, limit, levels)
			flat := Flatten(nil, answerOf(tree), len(levels))
			require.Len(t, flat, n)
			for i, r := range flat {
				require.Equal(t, int64(i%7), r.GetResponseDeleteRange().GetDeleted())
			}
		}
	}
}

// A guarded put is a transaction itself, which takes its operation from the limit.
func TestGuardedOperationsFitWhenNested(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{2, 3, 10, 128} {
		for _, n := range []int{1, 2, 9, 127, 128, 1000} {
			ops := make([]*pb.RequestOp, n)
			for i := range ops {
				ops[i] = Txn(&pb.TxnRequest{Compare: []*pb.Compare{{}}, Success: []*pb.RequestOp{Put(&pb.PutRequest{})}})
			}
			levels, err := LevelsFor(n, limit-InnerOps(ops))
			if err != nil {
				require.ErrorIs(t, err, errs.ErrTooManyOps)
				continue
			}
			tree := Nest(ops, levels)
			require.NoError(t, serverAccepts(tree, limit), "%d in %d: %v", n, limit, levels)
			answer := make([]*pb.ResponseOp, n)
			for i := range answer {
				answer[i] = &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{Succeeded: i%3 == 0}}}
			}
			// The answers to the puts themselves are not looked into.
			flat := Flatten(nil, answerLike(tree, &answer, len(levels)), len(levels))
			require.Len(t, flat, n)
			for i, r := range flat {
				require.Equal(t, i%3 == 0, r.GetResponseTxn().GetSucceeded())
			}
		}
	}
}

// answerLike arranges answers as the operations of a tree of so many levels are.
func answerLike(ops []*pb.RequestOp, answers *[]*pb.ResponseOp, levels int) []*pb.ResponseOp {
	out := make([]*pb.ResponseOp, len(ops))
	for i, op := range ops {
		if levels == 1 {
			out[i], *answers = (*answers)[0], (*answers)[1:]
			continue
		}
		inner := answerLike(op.GetRequestTxn().Success, answers, levels-1)
		out[i] = &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{Responses: inner}}}
	}
	return out
}

func TestNestingIsAsShallowAsCanBe(t *testing.T) {
	t.Parallel()
	for n, want := range map[int][]int{
		1: {128}, 128: {128}, 129: {64, 64}, 4096: {64, 64}, 4097: {43, 43, 42}, 77_658: {43, 43, 42}, 77_659: {32, 32, 32, 32},
	} {
		levels, err := LevelsFor(n, 128)
		require.NoError(t, err)
		require.Equal(t, want, levels, strconv.Itoa(n))
	}
}

// The most that fits is the largest product of numbers that add up to the limit.
func TestNestingKnowsItsLimit(t *testing.T) {
	t.Parallel()
	for limit, most := range map[int]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 9, 7: 12, 8: 18, 9: 27, 10: 36} {
		_, err := LevelsFor(most, limit)
		require.NoError(t, err, limit)
		_, err = LevelsFor(most+1, limit)
		require.ErrorIs(t, err, errs.ErrTooManyOps, limit)
		require.ErrorContains(t, err, fmt.Sprintf("at most %d fit", most))
	}
}
