package rpc

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// Unary is the shape of every unary RPC of the generated clients.
type Unary[In, Out any] func(context.Context, In, ...grpc.CallOption) (Out, error)

// Calls are the RPCs of etcd, taken from the generated clients once so that a request
// needs no closure of its own.
type Calls struct {
	Put    Unary[*pb.PutRequest, *pb.PutResponse]
	Get    Unary[*pb.RangeRequest, *pb.RangeResponse]
	Delete Unary[*pb.DeleteRangeRequest, *pb.DeleteRangeResponse]
	Txn    Unary[*pb.TxnRequest, *pb.TxnResponse]

	Grant      Unary[*pb.LeaseGrantRequest, *pb.LeaseGrantResponse]
	Revoke     Unary[*pb.LeaseRevokeRequest, *pb.LeaseRevokeResponse]
	TimeToLive Unary[*pb.LeaseTimeToLiveRequest, *pb.LeaseTimeToLiveResponse]
	Status     Unary[*pb.StatusRequest, *pb.StatusResponse]

	// Streams.
	Range  func(context.Context, *pb.RangeRequest, ...grpc.CallOption) (pb.KV_RangeStreamClient, error)
	Renew  func(context.Context, ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error)
	Follow func(context.Context, ...grpc.CallOption) (pb.Watch_WatchClient, error)

	authenticate Unary[*pb.AuthenticateRequest, *pb.AuthenticateResponse]
}

func newCalls(conn grpc.ClientConnInterface) Calls {
	kv, lease := pb.NewKVClient(conn), pb.NewLeaseClient(conn)
	return Calls{
		Put: kv.Put, Get: kv.Range, Delete: kv.DeleteRange, Txn: kv.Txn,
		Grant: lease.LeaseGrant, Revoke: lease.LeaseRevoke, TimeToLive: lease.LeaseTimeToLive,
		Status: pb.NewMaintenanceClient(conn).Status,
		Range:  kv.RangeStream, Renew: lease.LeaseKeepAlive, Follow: pb.NewWatchClient(conn).Watch,
		authenticate: pb.NewAuthClient(conn).Authenticate,
	}
}
