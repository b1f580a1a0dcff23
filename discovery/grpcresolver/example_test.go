package grpcresolver_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
	"github.com/blueprint-go/etcd/discovery/grpcresolver"
	"github.com/blueprint-go/etcd/internal/memserver"
)

// exampleClient returns a client of a server in memory.
func exampleClient() (client *etcd.Client, end func()) {
	endpoint, stop, err := memserver.New().Serve()
	if err != nil {
		log.Fatal(err)
	}
	if client, err = etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoint)); err != nil {
		log.Fatal(err)
	}
	return client, func() {
		_ = client.Close()
		stop()
	}
}

// Call a service by its name.
func ExampleNewBuilder() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	conn, err := grpc.NewClient("etcd:///cart",
		grpc.WithResolvers(grpcresolver.NewBuilder(client)),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	calls := grpc_health_v1.NewHealthClient(conn)
	_, err = calls.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	fmt.Println(status.Convert(err).Code())

	r, err := discovery.Register(ctx, client, "cart", discovery.Instance{Address: listener.Addr().String()},
		discovery.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = r.Close(ctx) }()
	found, err := calls.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(found.Status)
	// Output:
	// Unavailable
	// SERVING
}
