package txntree_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/txntree"
)

func TestLoadIsWhatTheServerCounts(t *testing.T) {
	t.Parallel()
	puts := func(n int) (out []*pb.RequestOp) {
		for range n {
			out = append(out, txntree.Put(&pb.PutRequest{}))
		}
		return out
	}
	nested := txntree.Txn(&pb.TxnRequest{Compare: make([]*pb.Compare, 4), Success: puts(2)})
	for want, txn := range map[int]*pb.TxnRequest{
		0: {},
		3: {Compare: make([]*pb.Compare, 3), Success: puts(2), Failure: puts(1)},
		5: {Success: puts(2), Failure: puts(5)},
		6: {Success: append(puts(1), nested), Failure: puts(1)},
		7: {Compare: make([]*pb.Compare, 3), Failure: []*pb.RequestOp{nested}},
	} {
		require.Equal(t, want, txntree.Load(txn))
	}
}
