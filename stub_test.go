package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/blueprint-go/etcd"
)

// stub is a server that answers what it is told to: for what a real one does not
// do on demand. A nil function means an empty answer.
type stub struct {
	pb.UnimplementedKVServer
	put    func(context.Context, *pb.PutRequest) (*pb.PutResponse, error)
	get    func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	txn    func(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error)
	remove func(context.Context, *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error)
	// stream answers range streams; nil makes the server one that has none.
	stream func(*pb.RangeRequest, pb.KV_RangeStreamServer) error
}

func (s *stub) Put(ctx context.Context, req *pb.PutRequest) (*pb.PutResponse, error) {
	if s.put == nil {
		return &pb.PutResponse{}, nil
	}
	return s.put(ctx, req)
}

func (s *stub) Range(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	if s.get == nil {
		return &pb.RangeResponse{}, nil
	}
	return s.get(ctx, req)
}

func (s *stub) DeleteRange(ctx context.Context, req *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if s.remove == nil {
		return s.UnimplementedKVServer.DeleteRange(ctx, req)
	}
	return s.remove(ctx, req)
}

func (s *stub) Txn(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	if s.txn == nil {
		return &pb.TxnResponse{}, nil
	}
	return s.txn(ctx, req)
}

// stubClient returns a client of s, over a connection in memory. Both end with t.
func stubClient(t testing.TB, s *stub, change ...func(*etcd.Config)) *etcd.Client {
	t.Helper()
	c, err := tryStub(t, s, change...)
	require.NoError(t, err)
	return c
}

// tryStub is stubClient for a client that may fail.
func tryStub(t testing.TB, s *stub, change ...func(*etcd.Config)) (*etcd.Client, error) {
	t.Helper()
	cfg := inMemory(t, s)
	for _, f := range change {
		f(cfg)
	}
	c, err := etcd.NewClient(cfg)
	if err == nil {
		t.Cleanup(func() { require.NoError(t, c.Close()) })
	}
	return c, err
}

// inMemory returns the configuration of a client whose endpoints are some servers, over
// connections in memory. They end with t.
func inMemory(t testing.TB, servers ...*stub) *etcd.Config {
	t.Helper()
	listeners, endpoints := map[string]*bufconn.Listener{}, []string{}
	for i, s := range servers {
		at := fmt.Sprintf("127.0.0.1:%d", 2379+i)
		l := bufconn.Listen(1 << 20)
		listeners[at], endpoints = l, append(endpoints, at)
		// As etcd does; gRPC's own default hangs up on a client that pings.
		srv := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}))
		pb.RegisterKVServer(srv, s)
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		t.Cleanup(func() {
			srv.Stop()
			// A test that never connected may end before Serve has begun.
			if err := <-served; !errors.Is(err, grpc.ErrServerStopped) {
				require.NoError(t, err)
			}
		})
	}
	return etcd.DefaultConfig().WithEndpoints(endpoints...).WithLazyConnect().
		WithDialer(func(ctx context.Context, _, addr string) (net.Conn, error) { return listeners[addr].DialContext(ctx) })
}

func (s *stub) RangeStream(req *pb.RangeRequest, to pb.KV_RangeStreamServer) error {
	if s.stream == nil {
		return s.UnimplementedKVServer.RangeStream(req, to)
	}
	return s.stream(req, to)
}
