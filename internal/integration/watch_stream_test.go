package integration

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestWatchBesideASilentEndpointIsRegisteredElsewhere(t *testing.T) {
	t.Parallel()
	srv := server(t)
	silent, good := etcdtest.NewProxy(t, srv.Endpoint()), etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(silent.Endpoint(), good.Endpoint()).WithTimeout(4*time.Second))
	direct := client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	for silent.Connections() == 0 || good.Connections() == 0 {
		require.NoError(t, c.Put(ctx, p+"warm", nil))
	}
	silent.Blackhole()
	for _, key := range []string{"a", "b", "c", "d"} {
		w := c.Watch(ctx, p+key)
		require.NoError(t, direct.Put(ctx, p+key, []byte(key)))
		require.Equal(t, key, string(events(t, w, 1)[0].Kv.Value))
	}
}

func TestWatchOnSlowStreamsKeepsItsPromise(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	srv := server(t, tapped(func(ctx context.Context) error {
		select {
		case <-open:
		case <-ctx.Done():
		}
		return nil
	}, nil, nil))
	c := client(t, config(srv).WithTimeout(time.Second))
	p, ctx := prefix(t), within(t, patience)
	require.NoError(t, client(t, config(srv)).Put(ctx, p+"k", []byte("before, and not seen by this client")))
	var watches []etcd.WatchChan
	for range 3 {
		watches = append(watches, c.WatchPrefix(ctx, p))
	}
	require.NoError(t, c.Put(ctx, p+"k", []byte("after Watch has returned")))
	close(open)
	for _, w := range watches {
		require.Equal(t, "after Watch has returned", string(events(t, w, 1)[0].Kv.Value))
	}
}

func TestRegistrationAloneDoesNotShortenTheWait(t *testing.T) {
	t.Parallel()
	var streams atomic.Int64
	srv := server(t, tapped(func(context.Context) error {
		streams.Add(1)
		return nil
	}, nil, func(s grpc.ServerStream, r *pb.WatchResponse) error {
		if err := s.SendMsg(r); err != nil {
			return err
		}
		return rpctypes.ErrGRPCWatchCanceled
	}))
	c := client(t, config(srv))
	began := time.Now()
	c.Watch(within(t, patience), "k")
	require.Eventually(t, func() bool { return streams.Load() >= 9 }, patience, time.Millisecond)
	require.Greater(t, time.Since(began), time.Second)
}

func TestWatchRefusedAfterItsRegistrationEnds(t *testing.T) {
	t.Parallel()
	var logins atomic.Int64
	srv := server(t, etcdtest.WithAuth("root"), etcdtest.WithGRPCServerOptions(
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if info.FullMethod == pb.Auth_Authenticate_FullMethodName {
				logins.Add(1)
			}
			return handler(ctx, req)
		})), tapped(nil, nil, func(s grpc.ServerStream, r *pb.WatchResponse) error {
		if err := s.SendMsg(r); err != nil || !r.Created {
			return err
		}
		r.Created, r.Canceled, r.CancelReason = false, true, rpctypes.ErrGRPCInvalidAuthToken.Error()
		return s.SendMsg(r)
	}))
	c := client(t, config(srv).WithAuth("root", "root"))
	require.ErrorIs(t, lastError(t, c.Watch(within(t, patience), "k")), etcd.ErrUnauthenticated)
	require.LessOrEqual(t, logins.Load(), int64(5))
}

// observedWatch notes what a hook is told.
type observedWatch struct {
	mu   sync.Mutex
	told []string
}

func (o *observedWatch) note(what string, w etcd.WatchInfo) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told = append(o.told, what+" "+w.Key)
}

func (o *observedWatch) BeforeRequest(ctx context.Context, _ etcd.RequestInfo) context.Context {
	return ctx
}

func (o *observedWatch) AfterRequest(context.Context, etcd.RequestInfo, etcd.ResultInfo) {}

func (o *observedWatch) WatchOpened(_ context.Context, w etcd.WatchInfo) { o.note("opened", w) }
func (o *observedWatch) WatchInterrupted(_ context.Context, w etcd.WatchInfo, cause error) {
	if cause != nil {
		o.note("interrupted", w)
	}
}
func (o *observedWatch) WatchResumed(_ context.Context, w etcd.WatchInfo) { o.note("resumed", w) }
func (o *observedWatch) WatchResynced(_ context.Context, w etcd.WatchInfo, reason error) {
	o.note("resynced after "+reason.Error(), w)
}

func (o *observedWatch) WatchEnded(_ context.Context, w etcd.WatchInfo, err error) {
	if err == nil {
		o.note("ended", w)
	} else {
		o.note("failed", w)
	}
}

func (o *observedWatch) all() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.told...)
}

func TestInterruptionOfAWatchIsTold(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	var hook observedWatch
	log := &lockedBuffer{}
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()).WithHooks(&hook).
		WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	direct := client(t, config(srv))
	p := prefix(t)
	ctx, cancel := context.WithCancel(within(t, patience))
	w := c.WatchPrefix(ctx, p, etcd.WithWatchStatus())
	silent := c.Watch(ctx, p+"k")

	r := next(t, w)
	require.Equal(t, etcd.WatchRegistered, r.State)
	require.EqualValues(t, 1, r.Revision)
	require.NoError(t, direct.Put(ctx, p+"k", []byte("1")))
	require.Equal(t, etcd.WatchEvents, next(t, w).State)

	proxy.Refuse()
	proxy.Cut()
	r = next(t, w)
	require.Equal(t, "interrupted", r.State.String())
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "watches are interrupted") }, patience, time.Millisecond)
	require.ErrorIs(t, r.Cause, etcd.ErrUnavailable)
	require.Empty(t, r.Events)
	require.NoError(t, r.Err())
	require.NoError(t, direct.Put(ctx, p+"k", []byte("2")))
	proxy.Heal()
	require.Equal(t, etcd.WatchResumed, next(t, w).State)
	require.Equal(t, "2", string(events(t, w, 1)[0].Kv.Value))
	require.Len(t, events(t, silent, 2), 2, "told only to those who ask")

	cancel()
	closes(t, w)
	closes(t, silent)
	require.ErrorIs(t, lastError(t, c.WatchPrefix(t.Context(), p, etcd.WithRevision(1<<40), etcd.WithRevision(-1))), etcd.ErrInvalidArgument)
	require.Eventually(t, func() bool { return len(hook.all()) == 8 }, patience, time.Millisecond)
	var mine []string
	for _, told := range hook.all() {
		if what, key, _ := strings.Cut(told, " "); key == p {
			mine = append(mine, what)
		}
	}
	require.Equal(t, []string{"opened", "interrupted", "resumed", "ended"}, mine)
}

func TestWatchWithoutAServerTellsWhenItBegins(t *testing.T) {
	t.Parallel()
	srv := server(t)
	srv.Stop()
	c := client(t, config(srv).WithLazyConnect().WithTimeout(300*time.Millisecond))
	isRefused(t, c)
	p, ctx := prefix(t), within(t, patience)
	w := c.Watch(ctx, p+"k", etcd.WithWatchStatus())
	r := next(t, w)
	require.Equal(t, etcd.WatchInterrupted, r.State)
	require.ErrorIs(t, r.Cause, etcd.ErrConnectionRefused)
	require.NoError(t, srv.Restart())
	require.Equal(t, etcd.WatchRegistered, next(t, w).State)
	require.NoError(t, client(t, config(srv)).Put(ctx, p+"k", []byte("v")))
	require.Equal(t, "v", string(events(t, w, 1)[0].Kv.Value))
}
