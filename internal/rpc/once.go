package rpc

import (
	"context"

	"google.golang.org/grpc"
)

// sendOnce is the interceptor of every unary call, in the place of clientv3's own, which
// retries, refreshes tokens and logs: Do does all three, and knows what a request may
// suffer. What else clientv3's does is say the version of the API, which servers count
// their clients by and nothing depends on; that would cost each request three allocations.
func sendOnce(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoker(ctx, method, req, reply, cc, opts...)
}
