package rpc

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// Unary is the shape of every unary RPC. It passes grpc.StaticMethod with its options.
type Unary[In, Out any] func(context.Context, In, ...grpc.CallOption) (Out, error)

// Calls are the RPCs of etcd, made once so that a request needs no closure of its own.
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
	return Calls{
		Put:          unary[pb.PutRequest, pb.PutResponse](conn, pb.KV_Put_FullMethodName),
		Get:          unary[pb.RangeRequest, pb.RangeResponse](conn, pb.KV_Range_FullMethodName),
		Delete:       unary[pb.DeleteRangeRequest, pb.DeleteRangeResponse](conn, pb.KV_DeleteRange_FullMethodName),
		Txn:          unary[pb.TxnRequest, pb.TxnResponse](conn, pb.KV_Txn_FullMethodName),
		Grant:        unary[pb.LeaseGrantRequest, pb.LeaseGrantResponse](conn, pb.Lease_LeaseGrant_FullMethodName),
		Revoke:       unary[pb.LeaseRevokeRequest, pb.LeaseRevokeResponse](conn, pb.Lease_LeaseRevoke_FullMethodName),
		TimeToLive:   unary[pb.LeaseTimeToLiveRequest, pb.LeaseTimeToLiveResponse](conn, pb.Lease_LeaseTimeToLive_FullMethodName),
		Status:       unary[pb.StatusRequest, pb.StatusResponse](conn, pb.Maintenance_Status_FullMethodName),
		authenticate: unary[pb.AuthenticateRequest, pb.AuthenticateResponse](conn, pb.Auth_Authenticate_FullMethodName),
		Range:        pb.NewKVClient(conn).RangeStream,
		Renew:        pb.NewLeaseClient(conn).LeaseKeepAlive,
		Follow:       pb.NewWatchClient(conn).Watch,
	}
}

// unary is what the generated clients do, but for a list of options that they would build
// anew for each call.
func unary[In, Out any](conn grpc.ClientConnInterface, method string) Unary[*In, *Out] {
	return func(ctx context.Context, in *In, opts ...grpc.CallOption) (*Out, error) {
		out := new(Out)
		if err := conn.Invoke(ctx, method, in, out, opts...); err != nil {
			return nil, err
		}
		return out, nil
	}
}
