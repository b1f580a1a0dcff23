package integration

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
	"github.com/blueprint-go/etcd/discovery/grpcresolver"
)

// callee is an instance of a service over gRPC: it answers calls for its health.
type callee struct {
	addr   string
	health *health.Server
	server *grpc.Server
	calls  atomic.Int64
}

// newCallee serves an instance for one test.
func newCallee(t testing.TB) *callee {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &callee{addr: l.Addr().String(), health: health.NewServer()}
	s.server = grpc.NewServer(grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		s.calls.Add(1)
		return handler(ctx, req)
	}))
	grpc_health_v1.RegisterHealthServer(s.server, s.health)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.server.Serve(l) // ends with the server
	}()
	t.Cleanup(func() {
		s.server.Stop()
		<-served
	})
	return s
}

// announced serves and registers an instance.
func announced(t testing.TB, c *etcd.Client, service string, i discovery.Instance) (*callee, *discovery.Registration) {
	t.Helper()
	s := newCallee(t)
	i.Address = s.addr
	r, err := discovery.Register(within(t, patience), c, service, i)
	require.NoError(t, err)
	return s, r
}

// dialled connects to a service for one test. The connection ends before the client does.
func dialled(t testing.TB, c *etcd.Client, service string, opts ...grpcresolver.Option) *grpc.ClientConn {
	t.Helper()
	return dialledWith(t, "etcd:///"+service, grpc.WithResolvers(grpcresolver.NewBuilder(c, opts...)))
}

func dialledWith(t testing.TB, target string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	return conn
}

// called makes a call and returns the address of who answered it.
func called(ctx context.Context, conn *grpc.ClientConn, opts ...grpc.CallOption) (string, error) {
	var from grpcpeer.Peer
	_, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, append(opts, grpc.Peer(&from))...)
	if err != nil || from.Addr == nil {
		return "", err
	}
	return from.Addr.String(), nil
}

// callsGo waits until calls go to all of some callees, and to nobody else.
func callsGo(t testing.TB, conn *grpc.ClientConn, to ...*callee) {
	t.Helper()
	want := map[string]bool{}
	for _, s := range to {
		want[s.addr] = true
	}
	require.Eventually(t, func() bool {
		got := map[string]bool{}
		for range 20 * len(to) {
			from, err := called(within(t, patience), conn, grpc.WaitForReady(true))
			if err != nil {
				return false
			}
			got[from] = true
		}
		return len(got) == len(want) && assert.ObjectsAreEqual(want, got)
	}, patience, time.Millisecond)
}

// byUser returns a context for a call of a user, for policies that hash it.
func byUser(ctx context.Context, user string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "user", user)
}

// farewells knows, of the connections of a client, which have ended.
type farewells struct {
	mu    sync.Mutex
	ended map[string]bool // by the address of the server
}

type farewellKey struct{}

func (f *farewells) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (f *farewells) HandleRPC(context.Context, stats.RPCStats) {}

func (f *farewells) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	return context.WithValue(ctx, farewellKey{}, info.RemoteAddr.String())
}

func (f *farewells) HandleConn(ctx context.Context, s stats.ConnStats) {
	if _, over := s.(*stats.ConnEnd); over {
		addr, _ := ctx.Value(farewellKey{}).(string)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.ended == nil {
			f.ended = map[string]bool{}
		}
		f.ended[addr] = true
	}
}

// has reports whether the connection to a server has ended.
func (f *farewells) has(addr string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended[addr]
}

// callTraffic is calls by some callers, one after the other each, until it is ended.
type callTraffic struct {
	stop             func()
	callers          sync.WaitGroup
	answered, failed atomic.Int64
	// late are the failed calls that had begun when gone had reported true.
	late atomic.Int64
}

// begin has callers call until the traffic is ended. gone reports whether those who are to lose
// calls are known to be gone.
func (tr *callTraffic) begin(t testing.TB, conn *grpc.ClientConn, callers int, gone func() bool) {
	ctx, cancel := context.WithCancel(within(t, patience))
	tr.stop = cancel
	for range callers {
		tr.callers.Go(func() {
			for ctx.Err() == nil {
				isLate := gone()
				_, err := called(ctx, conn)
				switch {
				case err == nil:
					tr.answered.Add(1)
				case ctx.Err() != nil || errors.Is(err, context.Canceled):
				default:
					tr.failed.Add(1)
					if isLate {
						tr.late.Add(1)
					}
				}
			}
		})
	}
}

// more waits until n further calls were answered.
func (tr *callTraffic) more(t testing.TB, n int64) {
	t.Helper()
	from := tr.answered.Load()
	require.Eventually(t, func() bool { return tr.answered.Load() >= from+n }, patience, time.Millisecond)
}

// end ends the traffic.
func (tr *callTraffic) end() {
	tr.stop()
	tr.callers.Wait()
}
