package integration

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestPasswordChangesWhileTheClientLives(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth("first"))
	var password atomic.Value
	password.Store("first")
	var asked atomic.Int64
	c := client(t, config(srv).WithCredentials(func(context.Context) (string, string, error) {
		asked.Add(1)
		return "root", password.Load().(string), nil
	}))
	require.NoError(t, c.Put(t.Context(), "key", []byte("1")))
	require.Equal(t, int64(1), asked.Load(), "a token is kept")

	// The change ends the user's tokens.
	_, err := c.Raw().UserChangePassword(t.Context(), "root", "second")
	require.NoError(t, err)
	password.Store("second")
	require.NoError(t, c.Put(t.Context(), "key", []byte("2")))
	require.Equal(t, int64(2), asked.Load())

	_, err = c.Raw().UserChangePassword(t.Context(), "root", "third")
	require.NoError(t, err)
	err = c.Put(t.Context(), "key", []byte("3"))
	require.ErrorIs(t, err, etcd.ErrAuthFailed)
	require.False(t, etcd.MaybeApplied(err))
	password.Store("third")
	require.NoError(t, c.Put(t.Context(), "key", []byte("4")))
}

func TestTokenChangesWhileTheClientLives(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth("root"))
	raw := client(t, config(srv).WithAuth("root", "root")).Raw()
	nobody := client(t, config(srv).WithLazyConnect()).Raw() // etcd 3.4 looks at the token of who asks for one
	fresh := func(ctx context.Context) (string, error) {
		resp, err := nobody.Authenticate(ctx, "root", "root")
		if err != nil {
			return "", err
		}
		return resp.Token, nil
	}
	var asked atomic.Int64
	c := client(t, config(srv).WithTokenSource(func(ctx context.Context) (string, error) {
		asked.Add(1)
		return fresh(ctx)
	}))
	require.NoError(t, c.Put(t.Context(), "key", nil))
	_, err := raw.UserChangePassword(t.Context(), "root", "root") // ends the user's tokens
	require.NoError(t, err)
	require.NoError(t, c.Put(t.Context(), "key", nil))
	require.Equal(t, int64(2), asked.Load())
}

var errVault = errors.New("vault is sealed")

func TestUnavailableCredentialsAreReportedAndNothingSent(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	srv := server(t, etcdtest.WithAuth("root"), etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			seen.Add(1)
			return handle(ctx, req)
		})))
	for name, tc := range map[string]struct {
		config *etcd.Config
		cause  error
	}{
		"failing credentials": {config(srv).WithCredentials(func(context.Context) (string, string, error) { return "", "", errVault }), errVault},
		"no user":             {config(srv).WithCredentials(func(context.Context) (string, string, error) { return "", "hunter2", nil }), nil},
		"no password":         {config(srv).WithCredentials(func(context.Context) (string, string, error) { return "root", "", nil }), nil},
		"a panic":             {config(srv).WithCredentials(func(context.Context) (string, string, error) { panic("hunter2") }), nil},
		"failing token":       {config(srv).WithTokenSource(func(context.Context) (string, error) { return "", errVault }), errVault},
		"no token":            {config(srv).WithTokenSource(func(context.Context) (string, error) { return "", nil }), nil},
		"a panic for a token": {config(srv).WithTokenSource(func(context.Context) (string, error) { panic("hunter2") }), nil},
	} {
		before := seen.Load()
		_, err := etcd.NewClient(tc.config)
		require.ErrorIs(t, err, etcd.ErrCredentials, name)

		c := client(t, tc.config.WithLazyConnect())
		for _, err := range []error{err, c.Put(t.Context(), "key", nil)} {
			require.ErrorIs(t, err, etcd.ErrCredentials, name)
			if tc.cause != nil {
				require.ErrorIs(t, err, tc.cause, name)
			}
			assert.False(t, etcd.MaybeApplied(err), name)
			assert.NotContains(t, err.Error(), "hunter2", name)
			var e *etcd.Error
			require.ErrorAs(t, err, &e)
			assert.False(t, e.Sent, name)
		}
		watch := <-c.Watch(t.Context(), "key")
		require.ErrorIs(t, watch.Err(), etcd.ErrCredentials, name)
		assert.Equal(t, before, seen.Load(), "%s: nothing was sent", name)
	}
}

func TestCredentialsHaveOneSource(t *testing.T) {
	t.Parallel()
	credentials := func(context.Context) (string, string, error) { return "u", "p", nil }
	token := func(context.Context) (string, error) { return "t", nil }
	for _, cfg := range []*etcd.Config{
		etcd.DefaultConfig().WithCredentials(credentials).WithAuth("u", "p"),
		etcd.DefaultConfig().WithCredentials(credentials).WithToken("t"),
		etcd.DefaultConfig().WithCredentials(credentials).WithTokenSource(token),
		etcd.DefaultConfig().WithTokenSource(token).WithAuth("u", "p"),
		etcd.DefaultConfig().WithTokenSource(token).WithToken("t"),
	} {
		err := cfg.Validate()
		require.ErrorIs(t, err, etcd.ErrInvalidConfig)
		assert.ErrorContains(t, err, "more than one of")
	}
	require.NoError(t, etcd.DefaultConfig().WithCredentials(credentials).Validate())
	require.NoError(t, etcd.DefaultConfig().WithTokenSource(token).Validate())
}

// syncBuffer is a buffer for a logger.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A cluster can advertise a host that its client would not have named.
func TestPlaintextCredentialsAreWarnedOfWhereverTheyGo(t *testing.T) {
	t.Parallel()
	var moved atomic.Bool // not before the client has connected
	srv := server(t, etcdtest.WithAuth("root"), etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			resp, err := handle(ctx, req)
			if members, ok := resp.(*pb.MemberListResponse); ok && err == nil && moved.Load() {
				for _, m := range members.Members {
					m.ClientURLs = []string{"http://192.0.2.7:2379"}
				}
			}
			return resp, err
		})))
	var log syncBuffer
	reached := make(chan struct{})
	var once sync.Once
	c := client(t, config(srv).WithAuth("root", "root").WithAutoSync(10*time.Millisecond).
		WithLogger(slog.New(slog.NewTextHandler(&log, nil))).
		WithDialer(func(ctx context.Context, _, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "192.0.2.7") {
				once.Do(func() { close(reached) })
			}
			return new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(srv.Endpoint(), "http://"))
		}))
	assert.Empty(t, log.String(), "a local endpoint")
	moved.Store(true)
	select {
	case <-reached:
	case <-time.After(patience):
		t.Fatal("the advertised endpoint was not connected to")
	}
	require.NoError(t, c.Put(t.Context(), "key", nil))
	assert.Contains(t, log.String(), "level=WARN")
	assert.Contains(t, log.String(), "credentials are sent in plaintext; use TLS")
	assert.Equal(t, 1, strings.Count(log.String(), "192.0.2.7:2379"), "once:\n%s", log.String())
}

// With TLS required a client speaks nothing else, whatever is advertised.
func TestRequiredTLSHoldsForAdvertisedEndpoints(t *testing.T) {
	t.Parallel()
	var tokens atomic.Int64
	var moved atomic.Bool // not before the client has connected
	plain := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			tokens.Add(1)
			return handle(ctx, req)
		})))
	srv := server(t, etcdtest.WithTLS(), etcdtest.WithAuth("root"), etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			resp, err := handle(ctx, req)
			if members, ok := resp.(*pb.MemberListResponse); ok && err == nil && moved.Load() {
				for _, m := range members.Members {
					m.ClientURLs = []string{plain.Endpoint()}
				}
			}
			return resp, err
		})))
	c := client(t, config(srv).WithTLS("", "", srv.CAFile(), false).WithRequireTLS().
		WithAuth("root", "root").WithAutoSync(10*time.Millisecond))
	moved.Store(true)
	require.Eventually(t, func() bool { return c.Endpoints()[0] == plain.Endpoint() }, patience, 10*time.Millisecond)
	err := c.Put(within(t, 5*time.Second), "key", nil)
	require.ErrorIs(t, err, etcd.ErrNotTLS)
	assert.Zero(t, tokens.Load())
}

func TestUnverifiedCredentialsAreWarnedOfOrRefused(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithTLS(), etcdtest.WithAuth("root"))
	var log syncBuffer
	cfg := config(srv).WithTLS("", "", "", true).WithLogger(slog.New(slog.NewTextHandler(&log, nil)))
	client(t, cfg.WithLazyConnect())
	assert.Empty(t, log.String(), "no credentials")

	client(t, cfg.WithAuth("root", "root"))
	assert.Contains(t, log.String(), "level=WARN")
	assert.Contains(t, log.String(), "certificates are not verified")
	assert.Contains(t, log.String(), srv.Endpoint())

	_, err := etcd.NewClient(cfg.WithRequireTLS())
	require.ErrorIs(t, err, etcd.ErrInvalidConfig)
	assert.ErrorContains(t, err, "RequireTLS: TLS is required, and certificates are not verified")
}
