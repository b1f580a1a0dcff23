package integration

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestWatchBegunWithoutServerStartsWithTheServer(t *testing.T) {
	t.Parallel()
	srv := server(t)
	srv.Stop()
	const timeout = 300 * time.Millisecond
	c := client(t, config(srv).WithLazyConnect().WithTimeout(timeout))
	p, ctx := prefix(t), within(t, patience)

	pace, began := keepPace(t), time.Now()
	w := c.Watch(ctx, p+"k", etcd.WithRevision(1))
	require.GreaterOrEqual(t, time.Since(began), timeout)
	require.Less(t, time.Since(began), pace.allow(timeout+2*time.Second))

	require.NoError(t, srv.Restart())
	require.NoError(t, client(t, config(srv)).Put(ctx, p+"k", []byte("v")))
	require.Equal(t, []string{"PUT " + p + "k=v @2"}, tellAll(events(t, w, 1)))
}

func startWriter(ctx context.Context, c *etcd.Client, key string) *writer {
	w := &writer{acked: make(chan int, 1<<20), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		defer close(w.acked)
		for n := 1; ctx.Err() == nil; n++ {
			// A failed put may have been applied: its number may come or not.
			if c.Put(ctx, key, []byte(strconv.Itoa(n))) == nil {
				w.acked <- n
				w.count.Add(1)
			}
		}
	}()
	return w
}

func TestWatchDeliversEventsOnceInOrderThroughFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(t *testing.T, srv *etcdtest.Server, proxy *etcdtest.Proxy, w *writer){
		"cut": func(_ *testing.T, _ *etcdtest.Server, proxy *etcdtest.Proxy, _ *writer) {
			proxy.Cut()
		},
		"refused": func(t *testing.T, _ *etcdtest.Server, proxy *etcdtest.Proxy, w *writer) {
			proxy.Refuse()
			proxy.Cut()
			w.more(t, 50)
		},
		"blackhole": func(t *testing.T, _ *etcdtest.Server, proxy *etcdtest.Proxy, w *writer) {
			proxy.Blackhole()
			w.more(t, 50)
		},
		"pause": func(t *testing.T, _ *etcdtest.Server, proxy *etcdtest.Proxy, w *writer) {
			proxy.Pause()
			w.more(t, 50)
		},
		"restart": func(t *testing.T, srv *etcdtest.Server, _ *etcdtest.Proxy, _ *writer) {
			require.NoError(t, srv.Restart())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := server(t)
			proxy := etcdtest.NewProxy(t, srv.Endpoint())
			p, ctx := prefix(t), within(t, 2*patience)
			events := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint())).Watch(ctx, p+"k")
			writing, stop := context.WithCancel(ctx)
			w := startWriter(writing, client(t, config(srv).WithTimeout(200*time.Millisecond)), p+"k")

			seen := make(chan int, 1<<20)
			go func() {
				defer close(seen)
				for r := range events {
					if r.Err() != nil && !errors.Is(r.Err(), etcd.ErrClosed) {
						t.Error(r.Err())
					}
					for _, e := range r.Events {
						n, _ := strconv.Atoi(string(e.Kv.Value))
						seen <- n
					}
				}
			}()
			for range 3 {
				w.more(t, 50)
				fault(t, srv, proxy, w)
				proxy.Heal()
			}
			w.more(t, 50)
			stop()
			<-w.done

			before, acked := 0, 0
			for want := range w.acked {
				for before < want {
					n := next(t, seen)
					require.Greater(t, n, before, "twice or out of order")
					before = n
				}
				require.Equal(t, want, before, "an acknowledged event is missing")
				acked++
			}
			require.GreaterOrEqual(t, acked, 200)
		})
	}
}

func TestSilentlyLostEndpointIsLeftByItsWatches(t *testing.T) {
	t.Parallel()
	srv := server(t)
	first, second := etcdtest.NewProxy(t, srv.Endpoint()), etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(first.Endpoint(), second.Endpoint()))
	p, ctx := prefix(t), within(t, patience)
	// Spread over both, so that one of them is on the lost one.
	watches := []etcd.WatchChan{c.Watch(ctx, p+"k"), c.Watch(ctx, p+"k"), c.Watch(ctx, p+"k"), c.Watch(ctx, p+"k")}
	first.Blackhole()
	pace, began := keepPace(t), time.Now()
	require.NoError(t, client(t, config(srv)).Put(ctx, p+"k", []byte("v")))
	for _, w := range watches {
		require.Equal(t, "v", string(events(t, w, 1)[0].Kv.Value))
	}
	t.Logf("all watches left the lost endpoint after %v", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), pace.allow(givenUp+5*time.Second))
}

func TestWatchPutsFragmentsOfARevisionTogether(t *testing.T) {
	t.Parallel()
	const limit = 4 << 20
	c := client(t, func() *etcd.Config {
		cfg := config(server(t, etcdtest.WithMaxRequestBytes(limit)))
		cfg.MaxRequestBytes = limit
		return cfg
	}())
	p, ctx := prefix(t), within(t, patience)
	const keys = 40
	put := func(value string) {
		txn := c.Txn()
		for i := range keys {
			txn.Then(etcd.OpPut(p+strconv.Itoa(i), []byte(value)))
		}
		_, err := txn.Commit(ctx)
		require.NoError(t, err)
	}
	old, fresh := strings.Repeat("o", limit/keys-1000), strings.Repeat("f", limit/keys-1000)
	put(old)
	w := c.WatchPrefix(ctx, p, etcd.WithPrevKV())
	put(fresh) // with the previous values, twice what the server sends at once
	r := next(t, w)
	require.Len(t, r.Events, keys)
	for _, e := range r.Events {
		require.True(t, string(e.Kv.Value) == fresh && string(e.PrevKv.Value) == old)
	}
}

func TestWatchSurvivesServersThatForgetItsToken(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth("root"), etcdtest.WithUser("reader", "pass", etcdtest.Permission{AllKeys: true, Read: true}))
	c := client(t, config(srv).WithAuth("reader", "pass"))
	root := client(t, config(srv).WithAuth("root", "root"))
	p, ctx := prefix(t), within(t, patience)
	w := c.Watch(ctx, p+"k")
	// A restarted server knows no token. More restarts than one request would
	// ask for tokens.
	for i := range 5 {
		require.NoError(t, srv.Restart())
		// A read is tried again where the old connection ends under it; a put may be lost.
		require.NoError(t, second(root.Exists(ctx, p+"k")))
		value := strconv.Itoa(i)
		require.NoError(t, root.Put(ctx, p+"k", []byte(value)))
		require.Equal(t, value, string(events(t, w, 1)[0].Kv.Value))
	}
}

func TestWatchSurvivesWhatPasses(t *testing.T) {
	t.Parallel()
	var streams atomic.Int64
	answers := []error{
		rpctypes.ErrGRPCNoLeader, rpctypes.ErrGRPCStopped, rpctypes.ErrGRPCLeaderChanged, rpctypes.ErrGRPCWatchCanceled,
		status.Error(codes.Unavailable, "a proxy without a backend"),
		nil,                              // the stream ends in good order: a proxy that is shut down
		rpctypes.ErrGRPCPermissionDenied, // of an old token, before etcd 3.5
		rpctypes.ErrGRPCInvalidAuthToken,
	}
	srv := server(t, etcdtest.WithAuth("root"), etcdtest.WithGRPCServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if n := int(streams.Add(1)); n <= len(answers) {
				return answers[n-1]
			}
			return handler(srv, ss)
		})))
	c := client(t, config(srv).WithAuth("root", "root"))
	p, ctx := prefix(t), within(t, patience)
	w := c.Watch(ctx, p+"k")
	require.EqualValues(t, len(answers)+1, streams.Load())
	require.NoError(t, c.Put(ctx, p+"k", []byte("v")))
	require.Equal(t, "v", string(events(t, w, 1)[0].Kv.Value))
}

func TestWatchEndsWithWhatDoesNotPass(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainStreamInterceptor(
		func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error {
			return status.Error(codes.PermissionDenied, "a proxy that lets no watches through")
		})))
	err := lastError(t, client(t, config(srv)).Watch(within(t, patience), "k"))
	require.ErrorIs(t, err, etcd.ErrPermissionDenied)
	require.ErrorContains(t, err, "lets no watches through")
}

// stutter is a stream that sends all events twice.
type stutter struct{ grpc.ServerStream }

func (s stutter) SendMsg(m any) error {
	if r, ok := m.(*pb.WatchResponse); ok && len(r.Events) > 0 {
		if err := s.ServerStream.SendMsg(proto.Clone(r)); err != nil {
			return err
		}
	}
	return s.ServerStream.SendMsg(m)
}

func TestWatchDropsWhatItHasDelivered(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, stutter{ss})
		})))
	c := client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	w := c.Watch(ctx, p+"k")
	for i := range 5 {
		v := strconv.Itoa(i)
		require.NoError(t, c.Put(ctx, p+"k", []byte(v)))
		require.Equal(t, v, string(events(t, w, 1)[0].Kv.Value))
	}
}

func TestWatchThatCatchesUpDeliversInPortions(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	const revisions = 30
	value := make([]byte, 1<<18)
	for i := range revisions {
		_, err := c.Txn().Then(etcd.OpPut(p+"n", []byte(strconv.Itoa(i))), etcd.OpPut(p+"k", value)).Commit(ctx)
		require.NoError(t, err)
	}
	w := c.WatchPrefix(ctx, p, etcd.WithRevision(2))
	largest := 0
	for i := 0; i < revisions; {
		evs := next(t, w).Events
		largest = max(largest, len(evs))
		require.Zero(t, len(evs)%2, "a torn revision")
		for ; len(evs) > 0; evs = evs[2:] {
			require.Equal(t, strconv.Itoa(i), string(evs[0].Kv.Value))
			require.Equal(t, evs[0].Kv.ModRevision, evs[1].Kv.ModRevision)
			i++
		}
	}
	require.Less(t, largest, revisions, "kept until the last fragment")
}
