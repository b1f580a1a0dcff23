package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// unary is the shape of every unary RPC of the generated clients.
type unary[In, Out any] func(context.Context, In, ...grpc.CallOption) (Out, error)

// rpcs are the calls that the road can make, taken from the generated clients
// once so that a request needs no closure of its own.
type rpcs struct {
	put    unary[*pb.PutRequest, *pb.PutResponse]
	get    unary[*pb.RangeRequest, *pb.RangeResponse]
	delete unary[*pb.DeleteRangeRequest, *pb.DeleteRangeResponse]
	txn    unary[*pb.TxnRequest, *pb.TxnResponse]

	grant      unary[*pb.LeaseGrantRequest, *pb.LeaseGrantResponse]
	revoke     unary[*pb.LeaseRevokeRequest, *pb.LeaseRevokeResponse]
	timeToLive unary[*pb.LeaseTimeToLiveRequest, *pb.LeaseTimeToLiveResponse]
	lease      pb.LeaseClient
	watch      pb.WatchClient
	status     unary[*pb.StatusRequest, *pb.StatusResponse]

	rangeStream func(context.Context, *pb.RangeRequest, ...grpc.CallOption) (pb.KV_RangeStreamClient, error)
}
