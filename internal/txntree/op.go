// Package txntree knows what the server does with a tree of operations before it is sent.
// It may import the protocol and the packages errs and keys.
package txntree

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// Range returns a read as an operation of a transaction.
func Range(read *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: read}}
}

// Put returns a put as an operation of a transaction.
func Put(put *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
}

// Delete returns a deletion as an operation of a transaction.
func Delete(del *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: del}}
}

// Txn returns a transaction as an operation of another one.
func Txn(txn *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}}
}

// Read returns the read of a span.
func Read(s keys.Span) *pb.RangeRequest {
	r := &pb.RangeRequest{Key: []byte(s.Start)}
	if s.End != "" {
		r.RangeEnd = []byte(s.End)
	}
	return r
}
