//go:build proxies

package integration

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// replaying is the setting that sends a request again whose answer was lost.
var replaying = settings{servers: "  retry-on all-retryable-errors\n  retries 3"}

// loser loses the answer to a request that a server has carried out, and with it
// the connection.
type loser struct {
	armed    atomic.Bool
	cut      func(gone <-chan struct{}) // cuts connections until that of the request is gone
	executed atomic.Int64               // writes that the server carried out with success
}

func (l *loser) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	if !writes(req) {
		return resp, err
	}
	if err == nil {
		l.executed.Add(1)
	}
	if l.armed.CompareAndSwap(true, false) {
		l.cut(ctx.Done())
	}
	return resp, err
}

// lossy returns a server behind a program, which loses an answer when it is told to.
func lossy(t *testing.T, kind middleboxKind, set settings) (*loser, *etcd.Config, *etcdtest.Server) {
	t.Helper()
	l := &loser{}
	srv := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(l.intercept)))
	// Two ways to it, as nginx tries no way twice.
	first, other := etcdtest.NewProxy(t, srv.Endpoint()), etcdtest.NewProxy(t, srv.Endpoint())
	l.cut = func(gone <-chan struct{}) {
		first.Cut()
		select {
		case <-gone:
		case <-time.After(time.Second): // it came the other way
			other.Cut()
			<-gone
		}
	}
	box := newMiddlebox(t, kind, []string{first.Addr(), other.Addr()}, set)
	return l, etcd.DefaultConfig().WithEndpoints(box.addr), srv
}

// What docs/proxies.md says of the usual settings.
func TestProxyWithoutReplayExecutesAWriteOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range middleboxKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			l, cfg, srv := lossy(t, kind, settings{})
			c, key, ctx := client(t, cfg), prefix(t), within(t, patience)
			require.NoError(t, c.Put(ctx, key, nil))
			l.armed.Store(true)
			l.executed.Store(0)
			err := c.Put(ctx, key, nil)
			require.True(t, etcd.MaybeApplied(err), "%v", err)
			kv, err := client(t, config(srv)).GetKV(ctx, key)
			require.NoError(t, err)
			require.Equal(t, int64(2), kv.Version)
		})
	}
}

// No client can see this, let alone prevent it. The promises exclude it by name.
func TestReplayingHAProxyExecutesAPlainPutTwice(t *testing.T) {
	t.Parallel()
	l, cfg, srv := lossy(t, haproxyHTTP2, replaying)
	c, key, ctx := client(t, cfg), prefix(t), within(t, patience)
	l.armed.Store(true)
	require.NoError(t, c.Put(ctx, key, nil))
	require.Equal(t, int64(2), l.executed.Load())
	kv, err := client(t, config(srv)).GetKV(ctx, key)
	require.NoError(t, err)
	require.Equal(t, int64(2), kv.Version)
}

// Its documentation says otherwise, but it hands gRPC's requests on as they come and
// keeps nothing that it could send again.
func TestNginxReplaysNothingThatItHasSent(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]bool{"connection lost": true, "time is up": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, cfg, srv := lossy(t, nginx, settings{server: "    grpc_read_timeout 1s;\n" +
				"    grpc_next_upstream error timeout http_502 http_503 http_504 non_idempotent;"})
			if !cut {
				l.cut = func(gone <-chan struct{}) { <-gone }
			}
			c, key, ctx := client(t, cfg), prefix(t), within(t, patience)
			l.armed.Store(true)
			err := c.Put(ctx, key, nil)
			require.True(t, etcd.MaybeApplied(err), "%v", err)
			require.Equal(t, int64(1), l.executed.Load())
			kv, err := client(t, config(srv)).GetKV(ctx, key)
			require.NoError(t, err)
			require.Equal(t, int64(1), kv.Version)
		})
	}
}

// Without encryption nothing tells an own value from an equal one of another.
func TestReplayedGuardedWritesAnswerTruly(t *testing.T) {
	t.Parallel()
	for _, m := range encryptedModes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			l, cfg, srv := lossy(t, haproxyHTTP2, replaying)
			c, direct := client(t, m.set(cfg)), client(t, m.set(config(srv)))
			for name, tc := range conditionalWrites {
				t.Run(name, func(t *testing.T) {
					key, ctx := prefix(t), within(t, patience)
					require.NoError(t, direct.Put(ctx, key+"n", []byte("41")))
					require.NoError(t, direct.Put(ctx, key+"from", []byte("here")))
					l.armed.Store(true)
					l.executed.Store(0)
					require.NoError(t, tc.write(ctx, c, key))
					require.False(t, l.armed.Load(), "nothing was lost")
					require.GreaterOrEqual(t, l.executed.Load(), int64(2), "nothing was sent again")
					value, err := direct.Get(ctx, key+tc.key)
					require.NoError(t, err)
					require.Equal(t, tc.value, string(value))
				})
			}
		})
	}
}

// conditionalWrites are writes that are bound to what they found, each once, and what a
// key then holds.
var conditionalWrites = map[string]struct {
	write      func(ctx context.Context, c *etcd.Client, key string) error
	key, value string
}{
	"PutIfNotExists": {func(ctx context.Context, c *etcd.Client, key string) error {
		return done(c.PutIfNotExists(ctx, key+"new", []byte("mine")))
	}, "new", "mine"},
	"CompareAndSwap": {func(ctx context.Context, c *etcd.Client, key string) error {
		return done(c.CompareAndSwap(ctx, key+"n", []byte("41"), []byte("42")))
	}, "n", "42"},
	"Update": {func(ctx context.Context, c *etcd.Client, key string) error {
		return c.Update(ctx, key+"n", increment)
	}, "n", "42"},
	"Transact": {func(ctx context.Context, c *etcd.Client, key string) error {
		return transactIncrement(ctx, c, key+"n")
	}, "n", "42"},
	"MoveKey": {func(ctx context.Context, c *etcd.Client, key string) error {
		return c.MoveKey(ctx, key+"from", key+"to")
	}, "to", "here"},
	"Put with a guard": {func(ctx context.Context, c *etcd.Client, key string) error {
		return c.Put(ctx, key+"n", []byte("42"), etcd.WithGuard())
	}, "n", "42"},
	"Put under a lock": {func(ctx context.Context, c *etcd.Client, key string) error {
		return c.WithLock(ctx, key+"lock", func(ctx context.Context) error { return c.Put(ctx, key+"n", []byte("42")) })
	}, "n", "42"},
}
