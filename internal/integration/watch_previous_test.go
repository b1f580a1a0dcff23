package integration

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// forgetful is a server that leaves previous values out, as a real one may for the first
// events of a watch: it sends them while it still notes what the watch wants.
func forgetful() etcdtest.Option {
	return tapped(nil, nil, func(s grpc.ServerStream, r *pb.WatchResponse) error {
		for _, ev := range r.Events {
			ev.PrevKv = nil
		}
		return s.SendMsg(r)
	})
}

func TestWatchAddsPreviousValuesTheServerLeftOut(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t, forgetful())
	c := client(t, config(srv).WithEncryption(testKey))
	p, ctx := prefix(t), within(t, patience)
	require.NoError(t, c.Put(ctx, p+"k", []byte("1"))) // 2
	require.NoError(t, second(c.Delete(ctx, p+"k")))   // 3
	require.NoError(t, c.Put(ctx, p+"k", []byte("2"))) // 4
	require.NoError(t, c.Put(ctx, p+"k", []byte("3"))) // 5
	require.NoError(t, c.Put(ctx, p+"k", []byte("4"))) // 6
	previous := func(from int64) (values []string) {
		for _, e := range events(t, c.Watch(ctx, p+"k", etcd.WithRevision(from), etcd.WithPrevKV()), int(7-from)) {
			require.NoError(t, e.Err)
			if e.PrevKv == nil {
				values = append(values, "none")
			} else {
				values = append(values, string(e.PrevKv.Value))
			}
		}
		return values
	}
	require.Equal(t, []string{"none", "1", "none", "2", "3"}, previous(2))
	require.NoError(t, second(c.Raw().Compact(ctx, 5)))
	requests := o.during(func() { require.Equal(t, []string{"none", "3"}, previous(5)) })
	require.Equal(t, []string{"Range", "Range"}, slices.DeleteFunc(requests, func(method string) bool { return method != "Range" }))
}

// The server's progress covers events that the watch has taken and can't complete yet.
func TestUnreadablePreviousValueLosesNoEvent(t *testing.T) {
	t.Parallel()
	var progress progress
	var refusing atomic.Bool
	srv := server(t, progress.option(), forgetful(), etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if r, ok := req.(*pb.RangeRequest); ok && r.Revision > 0 && refusing.Load() {
				return nil, status.Error(codes.Unavailable, "refused by the test")
			}
			return handler(ctx, req)
		})))
	c := client(t, config(srv).WithTimeout(4*time.Second))
	p, ctx := prefix(t), within(t, patience)
	for _, v := range []string{"1", "2", "3"} {
		require.NoError(t, c.Put(ctx, p+"k", []byte(v))) // 2, 3, 4
	}
	refusing.Store(true)
	w := c.WatchPrefix(ctx, p, etcd.WithRevision(3), etcd.WithPrevKV(), etcd.WithWatchStatus())
	require.Equal(t, etcd.WatchRegistered, next(t, w).State)
	require.Equal(t, etcd.WatchInterrupted, next(t, w).State)
	if progressInOrder(t, srv) {
		require.EqualValues(t, 4, progress.answered.Load())
	}
	refusing.Store(false)
	require.Equal(t, etcd.WatchResumed, next(t, w).State)
	evs := events(t, w, 2)
	require.Equal(t, []string{"PUT " + p + "k=2 @3", "PUT " + p + "k=3 @4"}, tellAll(evs))
	require.Equal(t, "1", string(evs[0].PrevKv.Value))
	require.Equal(t, "2", string(evs[1].PrevKv.Value))
}
