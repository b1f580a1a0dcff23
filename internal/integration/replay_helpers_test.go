package integration

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd/etcdtest"
)

// replayer executes writes twice and answers the second time, as HAProxy does with
// "retry-on all-retryable-errors" and nginx with "grpc_next_upstream non_idempotent"
// when the first answer is lost.
type replayer struct {
	on       atomic.Bool
	replayed atomic.Int64
	// between is called between the two.
	between atomic.Pointer[func()]
}

// replayingServer returns a server behind a proxy of that kind.
func replayingServer(t *testing.T) (*etcdtest.Server, *replayer) {
	t.Helper()
	r := &replayer{}
	return server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if r.on.Load() && writes(req) {
				if _, is := req.(*pb.LeaseGrantRequest); !is && second(handler(ctx, req)) == nil {
					r.replayed.Add(1)
					if f := r.between.Load(); f != nil {
						r.on.Store(false) // what f does is done once
						(*f)()
						r.on.Store(true)
					}
				}
			}
			return handler(ctx, req)
		}))), r
}

// through has what f does go through the proxy when it replays.
func (r *replayer) through(t *testing.T, f func() error) {
	t.Helper()
	r.on.Store(true)
	before := r.replayed.Load()
	err := f()
	r.on.Store(false)
	require.NoError(t, err)
	require.Greater(t, r.replayed.Load(), before)
}

// encryptedModes are those in which a stored value proves who has written it.
var encryptedModes = modes[2:]
