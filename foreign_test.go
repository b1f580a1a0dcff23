package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// page is what no error may quote.
const page = "<html>\r\n<head><title>Sorry</title></head>\r\n<body>the whole page</body></html>"

// serveWeb has an HTTP/2 web server answer each request.
func serveWeb(t testing.TB, answer http.HandlerFunc) string {
	t.Helper()
	l := loopback(t)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	web := &http.Server{Protocols: protocols, Handler: answer, ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = web.Serve(l)
	}()
	t.Cleanup(func() {
		_ = web.Close()
		<-served
	})
	return l.Addr().String()
}

// serveStatus answers with a page.
func serveStatus(t testing.TB, code int) string {
	return serveWeb(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(page))
	})
}

// serveAnyGRPC has a gRPC server answer every call by a status.
func serveAnyGRPC(t testing.TB, answer error) string {
	t.Helper()
	return serve(t, grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return answer })))
}

// assertNames checks an error that is one line about one endpoint.
func assertNames(t *testing.T, err error, endpoint string) {
	t.Helper()
	e, ok := errors.AsType[*etcd.EndpointError](err)
	if assert.True(t, ok, "%v names no endpoint", err) {
		assert.Equal(t, endpoint, e.Endpoint)
	}
	assert.NotContains(t, err.Error(), "\n")
	assert.NotContains(t, fmt.Sprintf("%+v", err), "whole page")
}

func TestNewClientFailsAgainstWhatIsNotEtcd(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, endpoint string
		want           error
	}{
		{"a page", serveStatus(t, 200), etcd.ErrNotEtcd},
		{"forbidden", serveStatus(t, 403), etcd.ErrNotEtcd},
		{"unauthorized", serveStatus(t, 401), etcd.ErrNotEtcd},
		{"not found", serveStatus(t, 404), etcd.ErrNotEtcd},
		{"another service", serveAnyGRPC(t, status.Error(codes.Unimplemented, "unknown service etcdserverpb.KV")), etcd.ErrNotEtcd},
		{"a mesh", serveAnyGRPC(t, status.Error(codes.PermissionDenied, "RBAC: access denied")), etcd.ErrPermissionDenied},
		{"no credentials", serveAnyGRPC(t, status.Error(codes.Unauthenticated, "Jwt is missing")), etcd.ErrUnauthenticated},
		{"precondition", serveAnyGRPC(t, status.Error(codes.FailedPrecondition, "no")), etcd.ErrFailedPrecondition},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(tc.endpoint))
			require.Nil(t, c)
			require.ErrorIs(t, err, tc.want)
			assertNames(t, err, tc.endpoint)
		})
	}
}

// A client with a password asks for a token first.
func TestAuthenticationFailsAgainstWhatIsNotEtcd(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		endpoint string
		want     error
	}{
		{serveStatus(t, 403), etcd.ErrNotEtcd},
		{serveStatus(t, 502), etcd.ErrUnavailable},
		{serveAnyGRPC(t, status.Error(codes.Unimplemented, "unknown service etcdserverpb.Auth")), etcd.ErrNotEtcd},
		{serveAnyGRPC(t, status.Error(codes.PermissionDenied, "RBAC: access denied")), etcd.ErrPermissionDenied},
		{serveAnyGRPC(t, status.Error(codes.InvalidArgument, "etcdserver: authentication failed, invalid user ID or password")), etcd.ErrAuthFailed},
	} {
		c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(tc.endpoint).WithAuth("user", "hunter2"))
		require.Nil(t, c)
		require.ErrorIs(t, err, tc.want)
		if !errors.Is(err, etcd.ErrAuthFailed) { // etcd's own word
			assertNames(t, err, tc.endpoint)
		}
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

func TestNewClientNamesTheStatusOfAProxy(t *testing.T) {
	t.Parallel()
	for code, name := range map[int]string{502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint := serveStatus(t, code)
			// A minute, of which it takes what a proxy may need to find its server.
			c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoint).WithDialTimeout(time.Minute))
			require.Nil(t, c)
			require.ErrorIs(t, err, etcd.ErrUnavailable)
			require.NotErrorIs(t, err, etcd.ErrTimeout)
			require.NotErrorIs(t, err, etcd.ErrNotEtcd)
			assertNames(t, err, endpoint)
			assert.Contains(t, err.Error(), fmt.Sprintf("HTTP status %d (%s)", code, name))
		})
	}
}

func TestNewClientWaitsForAProxysServer(t *testing.T) {
	t.Parallel()
	real := grpc.NewServer()
	pb.RegisterKVServer(real, &stub{})
	var asked atomic.Int64
	endpoint := serveWeb(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 { // by the clock, a second one could come when patience is over
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		real.ServeHTTP(w, r)
	})
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoint).WithDialTimeout(time.Minute))
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

func TestNewClientWaitsASecondForAProxy(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		takes time.Duration
		want  error
	}{
		{"finds its server", 900 * time.Millisecond, nil},
		{"has none", time.Hour, etcd.ErrUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				asked := 0
				s := &stub{get: func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
					if time.Since(began) >= tc.takes {
						return &pb.RangeResponse{}, nil
					}
					asked++
					return nil, status.Error(codes.Unavailable, "unexpected HTTP status code received from server: 503 (Service Unavailable)")
				}}
				_, err := tryStub(t, s, func(cfg *etcd.Config) { cfg.WithDialTimeout(time.Minute).LazyConnect = false })
				require.ErrorIs(t, err, tc.want)
				require.GreaterOrEqual(t, asked, 3)
				require.GreaterOrEqual(t, time.Since(began), min(tc.takes, time.Second))
				require.Less(t, time.Since(began), 3*time.Second)
			})
		})
	}
}

func TestRequestsQuoteNoPage(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]error{
		403: etcd.ErrNotEtcd, 413: etcd.ErrTooLarge, 429: etcd.ErrUnavailable, 500: etcd.ErrUnavailable,
		502: etcd.ErrUnavailable, 503: etcd.ErrUnavailable,
	} {
		endpoint := serveStatus(t, code)
		c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoint).WithLazyConnect())
		require.NoError(t, err)
		err = c.Put(t.Context(), "key", []byte("value"))
		require.ErrorIs(t, err, want, "status %d", code)
		assertNames(t, err, endpoint)
		assert.True(t, etcd.MaybeApplied(err), "a proxy's word proves nothing")
		if code == http.StatusRequestEntityTooLarge {
			assert.Contains(t, err.Error(), "client_max_body_size")
		}
		require.NoError(t, c.Close())
	}
}

// A long message of somebody in between, with line ends, does not disturb a log.
func TestForeignWordsFitOnOneLine(t *testing.T) {
	t.Parallel()
	endpoint := serveAnyGRPC(t, status.Error(codes.PermissionDenied, "no\x1b[31m\tway "+strings.Repeat("x", 5000)+"\nwhole page"))
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoint).WithLazyConnect())
	require.NoError(t, err)
	_, err = c.Get(t.Context(), "key")
	require.ErrorIs(t, err, etcd.ErrPermissionDenied)
	assertNames(t, err, endpoint)
	assert.Less(t, len(err.Error()), 400)
	assert.NotContains(t, err.Error(), "\x1b")
	require.NoError(t, c.Close())
}

// One of two endpoints leads to something else: the other one serves.
func TestReadsBypassAnEndpointThatIsntEtcd(t *testing.T) {
	t.Parallel()
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(serveStatus(t, 403), serveStub(t, &stub{})))
	require.NoError(t, err)
	for range 10 {
		_, err := c.Exists(t.Context(), "key")
		require.NoError(t, err)
	}
	require.NoError(t, c.Close())
}

// streamRefuser is a server whose pages come, and whose streams are refused by
// somebody in between.
func streamRefuser(answer error, streams *atomic.Int64) *stub {
	return &stub{
		get: func(_ context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
			header := &pb.ResponseHeader{Revision: 7}
			if string(req.Key) > "k1" {
				return &pb.RangeResponse{Header: header}, nil
			}
			return &pb.RangeResponse{Header: header, Count: 1, Kvs: []*mvccpb.KeyValue{{Key: []byte("k1"), ModRevision: 3}}}, nil
		},
		stream: func(*pb.RangeRequest, pb.KV_RangeStreamServer) error {
			streams.Add(1)
			return answer
		},
	}
}

func TestScanReadsPagesWhereStreamsAreRefused(t *testing.T) {
	t.Parallel()
	for _, answer := range []error{
		status.Error(codes.PermissionDenied, "RBAC: access denied"),
		status.Error(codes.Unauthenticated, "Jwt is missing"),
		status.Error(codes.NotFound, "no route"),
		status.Error(codes.Unknown, "unexpected"),
		status.Error(codes.FailedPrecondition, "no"),
		status.Error(codes.ResourceExhausted, "quota"),
		status.Error(codes.Internal, "stream terminated by RST_STREAM with error code: PROTOCOL_ERROR"),
		status.Error(codes.Unavailable, "no healthy upstream"),
		status.Error(codes.Unavailable, "unexpected HTTP status code received from server: 502 (Bad Gateway); malformed header: missing HTTP content-type"),
	} {
		var streams atomic.Int64
		c := stubClient(t, streamRefuser(answer, &streams))
		var keys []string
		for kv, err := range c.Scan(t.Context(), "k") {
			require.NoError(t, err, "%v", answer)
			keys = append(keys, kv.Key)
		}
		assert.Equal(t, []string{"k1"}, keys, answer)
		assert.Positive(t, streams.Load())
	}
}

func TestEtcdsRefusalOfAStreamEndsTheScan(t *testing.T) {
	t.Parallel()
	var streams atomic.Int64
	c := stubClient(t, streamRefuser(status.Error(codes.PermissionDenied, "etcdserver: permission denied"), &streams))
	for _, err := range c.Scan(t.Context(), "k") {
		require.ErrorIs(t, err, etcd.ErrPermissionDenied)
	}
	assert.Equal(t, int64(1), streams.Load())
}

// loopback returns a listener that the test's end closes.
func loopback(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// serve has a server listen on a port until the test ends, and returns its address.
func serve(t testing.TB, s *grpc.Server) string {
	t.Helper()
	l := loopback(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-served
	})
	return l.Addr().String()
}
