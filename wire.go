package etcd

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// The operations of a transaction of the protocol.

func opOfRange(read *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: read}}
}

func opOfPut(put *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
}

func opOfDelete(del *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del}}
}

func opOfTxn(txn *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}}
}

// readOf returns the read of a span.
func readOf(s keys.Span) *pb.RangeRequest {
	r := &pb.RangeRequest{Key: []byte(s.Start)}
	if s.End != "" {
		r.RangeEnd = []byte(s.End)
	}
	return r
}
