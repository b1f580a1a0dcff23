package etcd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
)

// overdue is a context whose deadline passes when a test wants it to: once the other
// side has got so far that the error can be known.
type overdue struct {
	context.Context
	passed chan struct{}
	once   sync.Once
}

func newOverdue(t testing.TB) *overdue {
	return &overdue{Context: t.Context(), passed: make(chan struct{})}
}

func (o *overdue) pass() { o.once.Do(func() { close(o.passed) }) }

func (o *overdue) Done() <-chan struct{} { return o.passed }

func (o *overdue) Err() error {
	select {
	case <-o.passed:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// mute takes connections and says nothing on them, as a process that hangs. It
// calls heard when it has got something.
func mute(t testing.TB, heard func()) string {
	t.Helper()
	l := loopback(t)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				if _, err := conn.Read(make([]byte, 1)); err == nil {
					heard()
				}
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
	t.Cleanup(func() { // the clients have hung up
		_ = l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

// firewall is a Dialer into nothing that calls begun.
func firewall(begun func()) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		begun()
		<-ctx.Done()
		return nil, ctx.Err()
	}
}

func TestEndpointUnderWayIsNamedAtTheDeadline(t *testing.T) {
	t.Parallel()
	silenced, hung, hungTLS := newOverdue(t), newOverdue(t), newOverdue(t)
	silent, silentTLS := mute(t, hung.pass), mute(t, hungTLS.pass)
	for _, tc := range []struct {
		name   string
		ctx    *overdue
		config *etcd.Config
		waited string
	}{
		{"firewall", silenced, etcd.DefaultConfig().WithEndpoints("192.0.2.1:2379").WithDialer(firewall(silenced.pass)), "192.0.2.1:2379: no connection for"},
		{"hung process", hung, etcd.DefaultConfig().WithEndpoints(silent), silent + ": no HTTP/2 settings from the server for"},
		{
			"hung process with TLS", hungTLS, etcd.DefaultConfig().WithEndpoints("https://"+silentTLS).WithTLS("", "", "", true),
			"https://" + silentTLS + ": no end of the TLS handshake for",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, err := etcd.NewClient(tc.config.WithLazyConnect())
			require.NoError(t, err)
			defer func() { require.NoError(t, c.Close()) }()
			err = c.Put(tc.ctx, "key", nil)
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
		"firewall":     etcd.DefaultConfig().WithEndpoints("192.0.2.1:2379").WithDialer(firewall(func() {})),
		"hung process": etcd.DefaultConfig().WithEndpoints(mute(t, func() {})),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := etcd.NewClient(cfg.WithDialTimeout(4 * time.Second))
			require.ErrorIs(t, err, etcd.ErrTimeout)
			e, ok := errors.AsType[*etcd.EndpointError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, cfg.Endpoints[0], e.Endpoint)
		})
	}
}

func TestServerThatDoesNotAnswerIsNamed(t *testing.T) {
	t.Parallel()
	for _, call := range []func(context.Context, *etcd.Client) error{
		func(ctx context.Context, c *etcd.Client) error { _, err := c.Get(ctx, "key"); return err },
		func(ctx context.Context, c *etcd.Client) error { return c.Put(ctx, "key", nil) },
	} {
		ctx := newOverdue(t)
		hang := func(call context.Context) error {
			ctx.pass()
			<-call.Done()
			return call.Err()
		}
		c := stubClient(t, &stub{
			get: func(ctx context.Context, _ *pb.RangeRequest) (*pb.RangeResponse, error) { return nil, hang(ctx) },
			put: func(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) { return nil, hang(ctx) },
		})
		err := call(ctx, c)
		require.ErrorIs(t, err, etcd.ErrTimeout)
		e, ok := errors.AsType[*etcd.EndpointError](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, "127.0.0.1:2379", e.Endpoint)
		assert.Contains(t, err.Error(), "no answer for")
	}
}

// deafAuth never answers an authentication.
type deafAuth struct {
	pb.UnimplementedAuthServer
	asked func()
}

func (a deafAuth) Authenticate(ctx context.Context, _ *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	a.asked()
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestServerThatDoesNotAuthenticateIsNamed(t *testing.T) {
	t.Parallel()
	s := grpc.NewServer()
	ctx := newOverdue(t)
	pb.RegisterAuthServer(s, deafAuth{asked: ctx.pass})
	endpoint := serve(t, s)
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoint).WithAuth("user", "hunter2").WithLazyConnect())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	err = c.Put(ctx, "key", nil)
	require.ErrorIs(t, err, etcd.ErrTimeout)
	assert.False(t, etcd.MaybeApplied(err))
	assert.Contains(t, err.Error(), endpoint+": no answer to the authentication for")
	assert.NotContains(t, err.Error(), "hunter2")
}
