package integration

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// What a user reads is the name of the call, and of what it is about, whatever request has failed.
func TestErrorsOfClaimsNameTheCall(t *testing.T) {
	t.Parallel()
	var refused atomic.Pointer[func(req any) bool] // a watch is a nil request
	refuses := func(req any) bool {
		f := refused.Load()
		return f != nil && (*f)(req)
	}
	srv := server(t, etcdtest.WithGRPCServerOptions(
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if refuses(req) {
				return nil, rpctypes.ErrGRPCPermissionDenied
			}
			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(s any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if strings.HasSuffix(info.FullMethod, "/Watch") && refuses(nil) {
				return rpctypes.ErrGRPCPermissionDenied
			}
			return handler(s, stream)
		})))
	grants := func(req any) bool { _, is := req.(*pb.LeaseGrantRequest); return is }
	revokes := func(req any) bool { _, is := req.(*pb.LeaseRevokeRequest); return is }
	txns := func(req any) bool { _, is := req.(*pb.TxnRequest); return is }
	gets := func(req any) bool { _, is := req.(*pb.RangeRequest); return is }
	leases := func(req any) bool { _, is := req.(*pb.LeaseTimeToLiveRequest); return is }
	watches := func(req any) bool { return req == nil }
	work := func(context.Context) error { return nil }

	direct, ctx := client(t, config(srv)), within(t, patience)
	n := 0
	fails := func(op string, refuse func(any) bool, prepare func(c *etcd.Client, name string) (call func() error)) {
		t.Helper()
		n++
		c, name := client(t, config(srv)), prefix(t)+string(rune('a'+n))
		call := prepare(c, name)
		refused.Store(&refuse)
		err := call()
		refused.Store(nil)
		require.ErrorIs(t, err, etcd.ErrPermissionDenied, op)
		var e *etcd.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, op, e.Op, "%v", err)
		if !strings.HasSuffix(op, "session") {
			assert.Equal(t, name, e.Key, "%v", err)
		}
	}

	election := func(call func(e *etcd.Election) error) func(*etcd.Client, string) func() error {
		return func(c *etcd.Client, name string) func() error {
			e := newElection(t, c, name)
			return func() error { return call(e) }
		}
	}
	leading := func(call func(e *etcd.Election) error) func(*etcd.Client, string) func() error {
		return func(c *etcd.Client, name string) func() error {
			e := newElection(t, c, name)
			require.NoError(t, e.Campaign(ctx, nil))
			return func() error { return call(e) }
		}
	}
	for _, refuse := range []func(any) bool{grants, txns} {
		fails("campaign", refuse, election(func(e *etcd.Election) error { return e.Campaign(ctx, nil) }))
		fails("campaign", refuse, func(c *etcd.Client, name string) func() error {
			return func() error { return c.Lead(ctx, name, nil, work) }
		})
	}
	fails("campaign", watches, func(c *etcd.Client, name string) func() error {
		require.NoError(t, newElection(t, direct, name).Campaign(ctx, nil))
		e := newElection(t, c, name)
		return func() error { return e.Campaign(ctx, nil) }
	})
	fails("leader", gets, election(func(e *etcd.Election) error { return second(e.Leader(ctx)) }))
	for _, refuse := range []func(any) bool{gets, watches} {
		fails("observe", refuse, election(func(e *etcd.Election) error { return lastSeen(e.Observe(ctx)) }))
	}
	for _, refuse := range []func(any) bool{txns, watches} {
		fails("observe", refuse, func(c *etcd.Client, name string) func() error {
			e := newElection(t, c, name, etcd.WithBothKeys())
			return func() error { return lastSeen(e.Observe(ctx)) }
		})
	}
	fails("proclaim", txns, leading(func(e *etcd.Election) error { return e.Proclaim(ctx, nil) }))
	fails("resign", txns, leading(func(e *etcd.Election) error { return e.Resign(ctx) }))
	fails("resign", txns, leading(func(e *etcd.Election) error { return e.Resign(ctx, etcd.WithSuccessor("heir")) }))
	fails("close election", txns, func(c *etcd.Client, name string) func() error {
		e, err := c.NewElection(name)
		require.NoError(t, err)
		require.NoError(t, e.Campaign(ctx, nil))
		return e.Close
	})
	for _, refuse := range []func(any) bool{txns, leases} {
		fails("queue", refuse, leading(func(e *etcd.Election) error { return second(e.Queue(ctx)) }))
	}

	fails("new lock", grants, func(c *etcd.Client, name string) func() error {
		return func() error { return second(c.NewLock(name)) }
	})
	fails("new lock", grants, func(c *etcd.Client, name string) func() error {
		return func() error { return c.WithLock(ctx, name, work) }
	})
	locked := func(call func(l *etcd.Lock) error) func(*etcd.Client, string) func() error {
		return func(c *etcd.Client, name string) func() error {
			l, err := c.NewLock(name)
			require.NoError(t, err)
			require.NoError(t, l.Lock(ctx))
			return func() error { return call(l) }
		}
	}
	fails("unlock", txns, locked(func(l *etcd.Lock) error { return l.Unlock(ctx) }))
	fails("is locked", txns, locked(func(l *etcd.Lock) error { return second(l.IsLocked(ctx)) }))
	for _, refuse := range []func(any) bool{txns, leases} {
		fails("queue", refuse, locked(func(l *etcd.Lock) error { return second(l.Queue(ctx)) }))
	}
	fails("close lock", revokes, locked((*etcd.Lock).Close))
	for _, opts := range [][]etcd.LockOption{nil, {etcd.WithBothKeys()}} {
		fails("lock", watches, func(c *etcd.Client, name string) func() error {
			require.NoError(t, newLock(t, direct, name).Lock(ctx))
			l := newLock(t, c, name, opts...)
			return func() error { return l.Lock(ctx) }
		})
	}
	behindTheirs := func(wait func(c *etcd.Client, name string) func() error) func(*etcd.Client, string) func() error {
		return func(c *etcd.Client, name string) func() error {
			m, _ := mutex(t, direct.Raw(), name)
			require.NoError(t, m.Lock(ctx))
			return wait(c, name)
		}
	}
	for _, opt := range theirKeys {
		fails("lock", watches, behindTheirs(func(c *etcd.Client, name string) func() error {
			l := newLock(t, c, name, opt)
			return func() error { return l.Lock(ctx) }
		}))
	}
	fails("campaign", watches, behindTheirs(func(c *etcd.Client, name string) func() error {
		e := newElection(t, c, name, etcd.WithBothKeys())
		return func() error { return e.Campaign(ctx, nil) }
	}))

	onRWLock := func(call func(l *etcd.RWLock) error) func(*etcd.Client, string) func() error {
		return func(c *etcd.Client, name string) func() error {
			l := newRWLock(t, c, name)
			return func() error { return call(l) }
		}
	}
	for _, refuse := range []func(any) bool{grants, txns} {
		fails("lock", refuse, onRWLock(func(l *etcd.RWLock) error { return l.Lock(ctx) }))
		fails("read lock", refuse, onRWLock(func(l *etcd.RWLock) error { return l.RLock(ctx) }))
		fails("try lock", refuse, onRWLock(func(l *etcd.RWLock) error { return second(l.TryLock(ctx)) }))
		fails("acquire", refuse, func(c *etcd.Client, name string) func() error {
			s, err := c.NewSemaphore(name, 1)
			require.NoError(t, err)
			return func() error { return s.Acquire(ctx) }
		})
	}
	behindWriter := func(call func(l *etcd.RWLock) error) func(*etcd.Client, string) func() error {
		return func(c *etcd.Client, name string) func() error {
			require.NoError(t, newRWLock(t, direct, name).Lock(ctx))
			return onRWLock(call)(c, name)
		}
	}
	fails("lock", watches, behindWriter(func(l *etcd.RWLock) error { return l.Lock(ctx) }))
	fails("read lock", watches, behindWriter(func(l *etcd.RWLock) error { return l.RLock(ctx) }))
	fails("acquire", watches, func(c *etcd.Client, name string) func() error {
		require.NoError(t, newSemaphore(t, direct, name, 1).Acquire(ctx))
		s := newSemaphore(t, c, name, 1)
		return func() error { return s.Acquire(ctx) }
	})
	fails("close read-write lock", revokes, func(c *etcd.Client, name string) func() error {
		l, err := c.NewRWLock(name)
		require.NoError(t, err)
		require.NoError(t, l.Lock(ctx))
		return l.Close
	})
	fails("close semaphore", revokes, func(c *etcd.Client, name string) func() error {
		s, err := c.NewSemaphore(name, 1)
		require.NoError(t, err)
		require.NoError(t, s.Acquire(ctx))
		return s.Close
	})
	fails("new session", grants, func(c *etcd.Client, _ string) func() error {
		return func() error { return second(c.NewSession(ctx)) }
	})
	fails("close session", revokes, func(c *etcd.Client, _ string) func() error {
		s, err := c.NewSession(ctx)
		require.NoError(t, err)
		return func() error { return s.Close(ctx) }
	})
}
