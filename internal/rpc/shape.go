package rpc

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// checkShape reports whether an answer has all the parts that etcd's answer to such a
// request has, which its readers rely on: something in between may leave some out. Of a
// write, such an answer says nothing.
func checkShape(in, out any) error {
	ok := true
	switch req := in.(type) {
	case *pb.TxnRequest:
		resp, _ := out.(*pb.TxnResponse)
		ok = resp.GetHeader().GetRevision() > 0 && answersTxn(req, resp)
	case *pb.RangeRequest:
		// A header is asked for where it is used: a chunk of a stream has none.
		// Keys from before the range would be read again forever.
		if resp, is := out.(*pb.RangeResponse); is {
			ok = len(resp.Kvs) == 0 && !resp.More || len(resp.Kvs) > 0 && bytes.Compare(resp.Kvs[0].Key, req.Key) >= 0
		}
	case *pb.LeaseGrantRequest:
		// A put of the lease 0 would stay for good.
		resp, _ := out.(*pb.LeaseGrantResponse)
		ok = resp.GetID() != 0 && (req.ID == 0 || req.ID == resp.GetID()) && resp.GetTTL() > 0
	}
	if ok {
		return nil
	}
	return ErrIncomplete
}

// ErrIncomplete is judged like an answer that is not etcd's.
var ErrIncomplete = status.Error(codes.DataLoss, "the answer lacks what etcd's has")

// answersTxn reports whether a response has a part for each operation of the branch
// that it names.
func answersTxn(req *pb.TxnRequest, resp *pb.TxnResponse) bool {
	ops := req.Failure
	if resp.GetSucceeded() {
		ops = req.Success
	} else if len(req.Compare) == 0 {
		return false // nothing could fail
	}
	if len(resp.GetResponses()) != len(ops) {
		return false
	}
	for i, op := range ops {
		part := resp.Responses[i]
		ok := false
		switch r := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			ok = part.GetResponseRange() != nil
		case *pb.RequestOp_RequestPut:
			ok = part.GetResponsePut() != nil
		case *pb.RequestOp_RequestDeleteRange:
			ok = part.GetResponseDeleteRange() != nil
		case *pb.RequestOp_RequestTxn:
			ok = part.GetResponseTxn() != nil && answersTxn(r.RequestTxn, part.GetResponseTxn())
		}
		if !ok {
			return false
		}
	}
	return true
}

// CheckEvents is checkShape for what a watch brings: each event is about a key.
func CheckEvents(resp *pb.WatchResponse) error {
	for _, ev := range resp.Events {
		if ev.GetKv() == nil {
			return ErrIncomplete
		}
	}
	return nil
}
