package etcd_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
)

// mute takes connections and says nothing on them, as a process that hangs.
func mute(t testing.TB) string {
	t.Helper()
	l := loopback(t)
	done := make(chan struct{})
	var open []net.Conn
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open = append(open, conn)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, conn := range open {
			_ = conn.Close()
		}
	})
	return l.Addr().String()
}

// firewall is a Dialer into nothing.
func firewall(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// impatient is a deadline before the library's own.
func impatient(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestEndpointUnderWayIsNamedAtTheDeadline(t *testing.T) {
	t.Parallel()
	silent := mute(t)
	for _, tc := range []struct {
		name   string
		config *etcd.Config
		waited string
	}{
		{"firewall", etcd.DefaultConfig().WithEndpoints("192.0.2.1:2379").WithDialer(firewall), "192.0.2.1:2379: no connection for"},
		{"hung process", etcd.DefaultConfig().WithEndpoints(silent), silent + ": no HTTP/2 settings from the server for"},
		{
			"hung process with TLS", etcd.DefaultConfig().WithEndpoints("https://"+silent).WithTLS("", "", "", true),
			"https://" + silent + ": no end of the TLS handshake for",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, err := etcd.NewClient(tc.config.WithLazyConnect())
			require.NoError(t, err)
			defer func() { require.NoError(t, c.Close()) }()
			err = c.Put(impatient(t), "key", nil)
			require.ErrorIs(t, err, etcd.ErrTimeout)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.False(t, etcd.MaybeApplied(err))
			_, ok := errors.AsType[*etcd.EndpointError](err)
			assert.True(t, ok, "%v", err)
			assert.Contains(t, err.Error(), tc.waited)
		})
	}
}

// NewClient and an attempt to connect have the same default, but not the same end.
func TestNewClientNamesASilentEndpoint(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]*etcd.Config{
		"firewall":     etcd.DefaultConfig().WithEndpoints("192.0.2.1:2379").WithDialer(firewall),
		"hung process": etcd.DefaultConfig().WithEndpoints(mute(t)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := etcd.NewClient(cfg.WithDialTimeout(time.Second))
			require.ErrorIs(t, err, etcd.ErrTimeout)
			e, ok := errors.AsType[*etcd.EndpointError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, cfg.Endpoints[0], e.Endpoint)
		})
	}
}

func TestServerThatDoesNotAnswerIsNamed(t *testing.T) {
	t.Parallel()
	c := stubClient(t, &stub{
		get: func(ctx context.Context, _ *pb.RangeRequest) (*pb.RangeResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		put: func(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	_, err := c.Get(impatient(t), "key")
	for _, err := range []error{err, c.Put(impatient(t), "key", nil)} {
		require.ErrorIs(t, err, etcd.ErrTimeout)
		e, ok := errors.AsType[*etcd.EndpointError](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, "127.0.0.1:2379", e.Endpoint)
		assert.Contains(t, err.Error(), "no answer for")
	}
}

// deafAuth never answers an authentication.
type deafAuth struct{ pb.UnimplementedAuthServer }

func (deafAuth) Authenticate(ctx context.Context, _ *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestServerThatDoesNotAuthenticateIsNamed(t *testing.T) {
	t.Parallel()
	l := loopback(t)
	s := grpc.NewServer()
	pb.RegisterAuthServer(s, deafAuth{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-served
	})
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(l.Addr().String()).WithAuth("user", "hunter2").WithLazyConnect())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	err = c.Put(impatient(t), "key", nil)
	require.ErrorIs(t, err, etcd.ErrTimeout)
	assert.False(t, etcd.MaybeApplied(err))
	assert.Contains(t, err.Error(), l.Addr().String()+": no answer to the authentication for")
	assert.NotContains(t, err.Error(), "hunter2")
}
