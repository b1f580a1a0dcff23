package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd/etcdtest"
)

// grpcProxyVariable makes the test binary run etcd's own gRPC proxy, for the
// endpoints that it names, instead of the tests.
const grpcProxyVariable = "ETCD_INTEGRATION_GRPC_PROXY"

// serveGRPCProxyIfAsked runs the proxy until standard input ends, if this process is
// the child of grpcProxy, and reports whether it was.
func serveGRPCProxyIfAsked() bool {
	endpoints := os.Getenv(grpcProxyVariable)
	if endpoints == "" {
		return false
	}
	if err := serveGRPCProxy(strings.Split(endpoints, ",")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// serveGRPCProxy does what "etcd grpc-proxy start" does for clients (server/v3,
// etcdmain/grpc_proxy.go).
func serveGRPCProxy(endpoints []string) error {
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, logger := context.Background(), zap.NewNop()
	kv, _ := grpcproxy.NewKvProxy(c)
	watch, _ := grpcproxy.NewWatchProxy(ctx, logger, c)
	lease, _ := grpcproxy.NewLeaseProxy(ctx, c)
	srv := grpc.NewServer()
	pb.RegisterKVServer(srv, kv)
	pb.RegisterWatchServer(srv, watch)
	pb.RegisterLeaseServer(srv, lease)
	pb.RegisterAuthServer(srv, grpcproxy.NewAuthProxy(c))
	go func() { _ = srv.Serve(listener) }()
	fmt.Println(listener.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// grpcProxy starts etcd's own gRPC proxy before a server, in a process of its own,
// and returns its endpoint.
func grpcProxy(t testing.TB, srv *etcdtest.Server) string {
	t.Helper()
	return child(t, grpcProxyVariable+"="+strings.Join(srv.Endpoints(), ","))
}
