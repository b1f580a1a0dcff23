package integration

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// endpointErrors returns the errors in err's tree by their endpoint.
func endpointErrors(err error) map[string]error {
	found := map[string]error{}
	var walk func(error)
	walk = func(err error) {
		switch x := err.(type) {
		case nil:
			return
		case *etcd.EndpointError:
			found[x.Endpoint] = x.Err
		case interface{ Unwrap() []error }:
			for _, inner := range x.Unwrap() {
				walk(inner)
			}
			return
		}
		walk(errors.Unwrap(err))
	}
	walk(err)
	return found
}

func TestNewClientNamesTheDownEndpointAndCause(t *testing.T) {
	t.Parallel()
	addr := etcdtest.ClosedPort(t)
	for _, cfg := range []*etcd.Config{
		etcd.DefaultConfig(),
		etcd.DefaultConfig().WithAuth("root", "the-password"),
	} {
		pace, began := keepPace(t), time.Now()
		c, err := etcd.NewClient(cfg.WithEndpoints(addr).WithDialTimeout(2 * time.Second))
		require.Nil(t, c)
		require.ErrorIs(t, err, etcd.ErrConnectionRefused)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, addr)
		require.NotContains(t, err.Error(), "the-password")
		require.False(t, etcd.MaybeApplied(err))
		require.Less(t, time.Since(began), pace.allow(3*time.Second), "bounded by DialTimeout")
	}
}

func TestNewClientNamesTheCauseOfEachEndpoint(t *testing.T) {
	t.Parallel()
	refused, garbage := etcdtest.ClosedPort(t), garbagePort(t, "SSH-2.0-Nonsense\r\n")
	_, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(refused, garbage).WithDialTimeout(3 * time.Second))
	causes := endpointErrors(err)
	require.Len(t, causes, 2)
	require.ErrorIs(t, causes[refused], etcd.ErrConnectionRefused)
	require.ErrorIs(t, causes[garbage], etcd.ErrNotEtcd)
}

func TestNewClientNeedsOneEndpointOnly(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, etcd.DefaultConfig().WithEndpoints(etcdtest.ClosedPort(t), srv.Endpoint(), silentPort(t)))
	for range 20 {
		require.NoError(t, c.Put(t.Context(), prefix(t), nil))
	}
}

// What waiting can't heal ends NewClient long before DialTimeout.
func TestNewClientDoesNotWaitOutPermanentFailures(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"ssh":    "SSH-2.0-Nonsense\r\n",
		"http":   "HTTP/1.1 400 Bad Request\r\n\r\n",
		"binary": "\x00\xff\x00\xff\x00\xff\x00\xff\x00\xff",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := garbagePort(t, answer)
			began := time.Now()
			_, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(addr).WithDialTimeout(patience))
			require.ErrorIs(t, err, etcd.ErrNotEtcd)
			require.ErrorIs(t, err, etcd.ErrUnavailable)
			require.ErrorContains(t, err, addr)
			require.Less(t, time.Since(began), patience/2)
		})
	}
}

func TestLazyClientWorksWhenItsServerComesUp(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth("the-password"))
	srv.Stop()
	for _, cfg := range []*etcd.Config{
		config(srv),
		config(srv).WithAuth("root", "the-password"),
	} {
		pace, began := keepPace(t), time.Now()
		c := client(t, cfg.WithLazyConnect())
		require.Less(t, time.Since(began), pace.allow(time.Second))
		if cfg.Username == "" {
			continue
		}
		err := failsWith(t, etcd.ErrConnectionRefused, func() error {
			return c.Put(within(t, 200*time.Millisecond), prefix(t), nil)
		})
		require.False(t, etcd.MaybeApplied(err))
		require.NoError(t, srv.Restart())
		require.NoError(t, c.Put(within(t, patience), prefix(t), nil))
	}
}

func TestUnservedRequestEndsByDefaultTimeoutWithCause(t *testing.T) {
	t.Parallel()
	addr := etcdtest.ClosedPort(t)
	c := client(t, etcd.DefaultConfig().WithEndpoints(addr).WithTimeout(300*time.Millisecond).WithLazyConnect())
	isRefused(t, c)
	for name, err := range map[string]error{
		"put": c.Put(context.Background(), "key", nil),
		"get": second(c.Get(context.Background(), "key")),
	} {
		var e *etcd.Error
		require.ErrorAs(t, err, &e, name)
		assert.False(t, e.Sent, name)
		assert.False(t, e.MaybeApplied, name)
		assert.ErrorIs(t, err, etcd.ErrTimeout, name)
		assert.ErrorIs(t, err, context.DeadlineExceeded, name)
		assert.ErrorIs(t, err, syscall.ECONNREFUSED, name)
		assert.ErrorContains(t, err, addr, name)
		assert.True(t, etcd.IsRetryable(err), name)
	}
}

func TestRequestReturnsAtItsDeadline(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	for name, fault := range map[string]func(){
		"refused":    func() { proxy.Refuse(); proxy.Cut() },
		"blackholed": func() { proxy.Blackhole() },
	} {
		fault()
		pace := keepPace(t)
		ctx := within(t, time.Second)
		began := time.Now()
		err := second(c.Get(ctx, "key"))
		late := time.Since(began) - time.Second
		proxy.Heal()
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		t.Logf("%s: %v after the deadline: %v", name, late, err)
		require.Less(t, late, pace.allow(50*time.Millisecond), name)
		require.NoError(t, second(c.List(within(t, patience), "key")), name)
	}
}

// The reason why there is no connection is told even when the first attempt of
// the request still had one.
func TestRequestLosingItsConnectionNamesTheDialFailure(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	s := &script{arrived: func(context.Context) {
		proxy.Refuse()
		proxy.Cut()
	}}
	err := second(c.Get(faults.follow(within(t, 4*time.Second), s), "key"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, etcd.ErrConnectionRefused)
	require.ErrorIs(t, err, etcd.ErrUnavailable, "the first attempt's end")
}

// Not parallel: it counts the goroutines of the process.
func TestRequestsGoOnAfterARestart(t *testing.T) {
	srv := server(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	require.NoError(t, c.Put(t.Context(), prefix(t), []byte("value")))
	first := 0
	for range 5 {
		require.NoError(t, srv.Restart())
		value, err := c.Get(t.Context(), prefix(t))
		require.NoError(t, err)
		require.Equal(t, "value", string(value))
		if first == 0 {
			first = runtime.NumGoroutine()
		}
	}
	// Eventually runs two of its own; one left by each restart would be more.
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= first+2 }, patience, time.Millisecond)
}

func TestClientIsBackSoonAfterTheNetworkIs(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	for name, fault := range map[string]func(){
		"refused":    func() { proxy.Refuse(); proxy.Cut() },
		"blackholed": func() { proxy.Blackhole() },
	} {
		fault()
		require.Error(t, second(c.Get(within(t, 1500*time.Millisecond), "key")), name)
		proxy.Heal()
		pace, began := keepPace(t), time.Now()
		require.NoError(t, second(c.List(within(t, patience), "key")), name)
		t.Logf("%s: back after %v", name, time.Since(began))
		require.Less(t, time.Since(began), pace.allow(2*time.Second), name)
	}
}

// A failed NewClient, of whatever cause, leaves no goroutine behind. Not
// parallel: it looks at all goroutines of the process.
func TestFailedNewClientLeavesNothingBehind(t *testing.T) {
	srv := server(t, etcdtest.WithTLS(), etcdtest.WithAuth("the-password"))
	for name, cfg := range map[string]*etcd.Config{
		"invalid":         etcd.DefaultConfig().WithEndpoints("::::"),
		"refused":         etcd.DefaultConfig().WithEndpoints(etcdtest.ClosedPort(t)),
		"silent":          etcd.DefaultConfig().WithEndpoints(silentPort(t)),
		"garbage":         etcd.DefaultConfig().WithEndpoints(garbagePort(t, "nonsense nonsense")),
		"auth, refused":   etcd.DefaultConfig().WithEndpoints(etcdtest.ClosedPort(t)).WithAuth("root", "the-password"),
		"auth, silent":    etcd.DefaultConfig().WithEndpoints(silentPort(t)).WithAuth("root", "the-password"),
		"auto-sync":       etcd.DefaultConfig().WithEndpoints(etcdtest.ClosedPort(t)).WithAutoSync(time.Minute),
		"no TLS":          etcd.DefaultConfig().WithEndpoints(strings.Replace(srv.Endpoint(), "https", "http", 1)),
		"unknown CA":      etcd.DefaultConfig().WithEndpoints(srv.Endpoint()),
		"wrong password":  etcd.DefaultConfig().WithEndpoints(srv.Endpoint()).WithTLS("", "", srv.CAFile(), false).WithAuth("root", "wrong"),
		"no user":         etcd.DefaultConfig().WithEndpoints(srv.Endpoint()).WithTLS("", "", srv.CAFile(), false),
		"encryption key":  etcd.DefaultConfig().WithEndpoints(srv.Endpoint()).WithEncryption(nil),
		"missing CA file": etcd.DefaultConfig().WithEndpoints(srv.Endpoint()).WithTLS("", "", "no-such-file", false),
	} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			_, err := etcd.NewClient(cfg.WithDialTimeout(300 * time.Millisecond))
			require.Error(t, err)
			// The server begins some of its own after it has answered first.
			require.NoError(t, goleak.Find(before,
				goleak.IgnoreAnyFunction("go.etcd.io/etcd/client/pkg/v3/transport.(*tlsListener).acceptLoop"),
				goleak.IgnoreAnyFunction("net/http.(*Server).Serve")))
		})
	}
}
