package txntree

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Load returns what the server counts for a transaction: for each level its conditions or its
// longer branch, and for the levels below the largest sum
// (server/v3/etcdserver/api/v3rpc/key.go, checkTxnRequest).
func Load(req *pb.TxnRequest) int {
	below := 0
	for _, ops := range [][]*pb.RequestOp{req.Success, req.Failure} {
		for _, op := range ops {
			if txn := op.GetRequestTxn(); txn != nil {
				below = max(below, Load(txn))
			}
		}
	}
	return max(len(req.Compare), len(req.Success), len(req.Failure)) + below
}
