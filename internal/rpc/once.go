package rpc

import (
	"context"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// sendOnce is the interceptor of every unary call, in the place of clientv3's
// own, which retries, refreshes tokens and logs: all three are done on the road
// (request.go, auth.go), where it is known what a request may suffer. What is
// left of it is the version of the API, which servers count their clients by. It
// saves a dozen allocations a request.
func sendOnce(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoker(withAPIVersion(ctx), method, req, reply, cc, opts...)
}

// apiVersion is shared by all requests; gRPC only reads it.
var apiVersion = metadata.Pairs(rpctypes.MetadataClientAPIVersionKey, version.APIVersion)

func withAPIVersion(ctx context.Context) context.Context {
	if _, ok := metadata.FromOutgoingContext(ctx); ok {
		return metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataClientAPIVersionKey, version.APIVersion)
	}
	return metadata.NewOutgoingContext(ctx, apiVersion)
}
