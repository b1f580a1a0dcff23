// Command discovery shows a service of two instances, each a process of its own, and a client
// that finds them by name. One of them is killed while the client calls: only the calls fail
// that it was answering.
//
//	go run ./examples/discovery                               # with an etcd of its own
//	ETCD_ENDPOINTS=localhost:2379 go run ./examples/discovery
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
	"github.com/blueprint-go/etcd/discovery/grpcresolver"
	"github.com/blueprint-go/etcd/etcdtest"
)

const service = "greeter"

// roleVariable makes this program an instance of the service.
const roleVariable = "EXAMPLE_DISCOVERY_SERVE"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if os.Getenv(roleVariable) != "" {
		err = serve(ctx)
	} else {
		err = run(ctx, os.Stdout)
	}
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// serve is an instance: it registers where it serves, and leaves in order when it is asked to.
func serve(ctx context.Context) error {
	client, err := newClient()
	if err != nil {
		return err
	}
	defer client.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	r, err := discovery.Register(ctx, client, service, discovery.Instance{Address: listener.Addr().String()},
		discovery.WithTTL(5*time.Second))
	if err != nil {
		return err
	}
	<-ctx.Done()
	ctx = context.WithoutCancel(ctx)
	drained := r.Drain(ctx) // no new calls
	server.GracefulStop()   // those under way
	return errors.Join(drained, <-served, r.Close(ctx))
}

func newClient() (*etcd.Client, error) {
	cfg, err := etcd.ConfigFromEnv()
	if err != nil {
		return nil, err
	}
	return etcd.NewClient(cfg)
}

func run(ctx context.Context, out io.Writer) error {
	if os.Getenv("ETCD_ENDPOINTS") == "" {
		server, err := etcdtest.Start()
		if err != nil {
			return err
		}
		defer func() { _ = server.Close() }()
		if err := os.Setenv("ETCD_ENDPOINTS", server.Endpoint()); err != nil { // for the instances too
			return err
		}
		defer func() { _ = os.Unsetenv("ETCD_ENDPOINTS") }()
	}
	client, err := newClient()
	if err != nil {
		return err
	}
	defer client.Close()
	conn, err := grpc.NewClient("etcd:///"+service,
		grpc.WithResolvers(grpcresolver.NewBuilder(client)),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()

	var instances []*exec.Cmd
	for range 2 {
		instance, err := start()
		if err != nil {
			return err
		}
		defer func() { _ = instance.Wait() }() // tells how it ended
		defer func() { _ = instance.Process.Signal(syscall.SIGTERM) }()
		instances = append(instances, instance)
	}
	t := &traffic{greeter: grpc_health_v1.NewHealthClient(conn)}
	if err := t.findAll(ctx, len(instances)); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, "both instances answer; one is killed")
	if err := t.during(ctx, instances[0].Process.Kill); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "of %d callers' calls %d were answered, and %d failed: those in flight\n", callers, t.answered.Load(), t.failed.Load())
	return nil
}

// start starts an instance in a process of its own.
func start() (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self) //nolint:gosec // this program itself
	cmd.Env = append(os.Environ(), roleVariable+"=1")
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}

// callers is how many call at once: so many calls may be in flight.
const callers = 4

// traffic is calls of the service.
type traffic struct {
	greeter          grpc_health_v1.HealthClient
	answered, failed atomic.Int64
}

// call calls the service and returns who has answered.
func (t *traffic) call(ctx context.Context, opts ...grpc.CallOption) (string, error) {
	var from peer.Peer
	_, err := t.greeter.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, append(opts, grpc.Peer(&from))...)
	if err != nil || from.Addr == nil {
		return "", err
	}
	return from.Addr.String(), nil
}

// findAll calls until n instances have answered.
func (t *traffic) findAll(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for found := map[string]bool{}; len(found) < n; {
		from, err := t.call(ctx, grpc.WaitForReady(true)) // until the first has registered
		if err != nil {
			return err
		}
		found[from] = true
	}
	return nil
}

// during has callers call while harm is done, and for a while before and after it.
func (t *traffic) during(ctx context.Context, harm func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var harmed atomic.Bool
	var after atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for after.Load() < 2000 && ctx.Err() == nil {
				if _, err := t.call(ctx); err != nil {
					t.failed.Add(1)
					continue
				}
				t.answered.Add(1)
				if harmed.Load() {
					after.Add(1)
				}
			}
		})
	}
	for t.answered.Load() < 500 && ctx.Err() == nil {
		if _, err := t.call(ctx); err != nil { // beside the others
			break
		}
	}
	err := harm()
	harmed.Store(true)
	all.Wait()
	return errors.Join(err, ctx.Err())
}
