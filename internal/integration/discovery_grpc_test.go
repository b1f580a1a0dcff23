package integration

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	naming "go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/ringhash"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/ringhash"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
	"github.com/blueprint-go/etcd/discovery/grpcresolver"
)

func TestCallsFollowTheInstances(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	conn := dialled(t, c, "shop/cart")
	ctx := within(t, patience)
	_, err := called(ctx, conn)
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.ErrorContains(t, err, "shop/cart")
	require.ErrorContains(t, err, discovery.ErrUnknownService.Error())
	a, first := announced(t, c, "shop/cart", discovery.Instance{})
	callsGo(t, conn, a)
	b, second := announced(t, c, "shop/cart", discovery.Instance{})
	callsGo(t, conn, a, b)
	require.NoError(t, first.Drain(ctx))
	callsGo(t, conn, b)
	require.NoError(t, first.Close(ctx))
	callsGo(t, conn, b)
	require.NoError(t, second.Drain(ctx))
	callsGo(t, conn, b) // there is no other
	require.NoError(t, second.Close(ctx))
	require.Eventually(t, func() bool {
		_, err = called(ctx, conn)
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "shop/cart")
	}, patience, time.Millisecond)
	d, _ := announced(t, c, "shop/cart", discovery.Instance{})
	callsGo(t, conn, d)
}

// A connection that was put to sleep wakes up while etcd is away, and so does a new one.
func TestResolverKeepsInstancesWhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	o := newOutage(t, etcd.DefaultConfig(), server(t))
	a, _ := announced(t, o.direct, "cart", discovery.Instance{})
	build := grpc.WithResolvers(grpcresolver.NewBuilder(o.c))
	awake, asleep := dialledWith(t, "etcd:///cart", build), dialledWith(t, "etcd:///cart", build, grpc.WithIdleTimeout(50*time.Millisecond))
	callsGo(t, awake, a)
	callsGo(t, asleep, a)
	o.begin()
	ctx := within(t, patience)
	for range 3 {
		for s := asleep.GetState(); s != connectivity.Idle; s = asleep.GetState() {
			require.True(t, asleep.WaitForStateChange(ctx, s))
		}
		for _, conn := range []*grpc.ClientConn{asleep, awake, dialledWith(t, "etcd:///cart", build)} {
			from, err := called(ctx, conn)
			require.NoError(t, err)
			require.Equal(t, a.addr, from)
		}
	}
	// Of this one nothing was ever found.
	_, err := called(ctx, dialledWith(t, "etcd:///other", build))
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.NotContains(t, err.Error(), discovery.ErrUnknownService.Error())
	b, _ := announced(t, o.direct, "other", discovery.Instance{})
	o.proxy.Heal()
	callsGo(t, dialledWith(t, "etcd:///other", build), b)
	callsGo(t, awake, a)
}

// resolved collects what a resolver tells a connection.
type resolved struct {
	resolver.ClientConn
	states chan resolver.State
	errs   chan error
}

func (r *resolved) UpdateState(s resolver.State) error { r.states <- s; return nil }

func (r *resolved) ReportError(err error) { r.errs <- err }

func (r *resolved) ParseServiceConfig(config string) *serviceconfig.ParseResult {
	return &serviceconfig.ParseResult{Err: errors.New(config)}
}

func parsed(t *testing.T, target string) *url.URL {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	return u
}

func TestEndpointsHaveWeightsAndAttributes(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	want := []discovery.Instance{
		{ID: "a", Address: "10.0.0.1:80", Zone: "eu", Version: "1", Weight: 7, Metadata: map[string]string{"k": "v"}},
		{ID: "b", Address: "10.0.0.2:80"},
	}
	for _, i := range append(want, discovery.Instance{ID: "c", Address: "10.0.0.3:80", Draining: true},
		discovery.Instance{ID: "d", Address: "10.0.0.2:80"}) {
		require.NoError(t, second(discovery.Register(ctx, c, "cart", i)))
	}
	r := &resolved{states: make(chan resolver.State, 9), errs: make(chan error, 9)}
	b := grpcresolver.NewBuilder(c, grpcresolver.WithHealthCheck("h"))
	require.Equal(t, "etcd", b.Scheme())
	built, err := b.Build(resolver.Target{URL: *parsed(t, "etcd:///cart")}, r, resolver.BuildOptions{})
	require.NoError(t, err)
	defer built.Close()
	built.ResolveNow(resolver.ResolveNowOptions{})
	state := next(t, r.states)
	require.Len(t, state.Endpoints, 2)
	for i, e := range state.Endpoints {
		got, ok := grpcresolver.InstanceOf(e)
		require.True(t, ok)
		require.Equal(t, want[i], got)
		require.Equal(t, want[i].Address, e.Addresses[0].Addr)
		require.Equal(t, max(want[i].Weight, 1), weight.FromEndpoint(e).Weight)
		require.Equal(t, want[i].ID, ringhash.HashKey(e))
		require.True(t, e.Attributes.Equal(state.Endpoints[i].Attributes))
	}
	require.False(t, state.Endpoints[0].Attributes.Equal(state.Endpoints[1].Attributes))
	require.ErrorContains(t, state.ServiceConfig.Err,
		`{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":"h"}}`)
	_, ok := grpcresolver.InstanceOf(resolver.Endpoint{})
	require.False(t, ok)
}

func TestUnhealthyInstancesGetNoCalls(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	a, _ := announced(t, c, "cart", discovery.Instance{})
	b, _ := announced(t, c, "cart", discovery.Instance{})
	conn := dialled(t, c, "cart", grpcresolver.WithHealthCheck(""))
	callsGo(t, conn, a, b)
	a.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	callsGo(t, conn, b)
	a.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	callsGo(t, conn, a, b)
}

// Each user's calls go to one instance, and to heavier ones more of them.
func TestRingHashHeedsWeights(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	light, _ := announced(t, c, "cart", discovery.Instance{ID: "light", Weight: 1})
	heavy, _ := announced(t, c, "cart", discovery.Instance{ID: "heavy", Weight: 9})
	conn := dialled(t, c, "cart", grpcresolver.WithPolicy("ring_hash_experimental", `{"requestHashHeader":"user"}`))
	ctx := within(t, patience)
	shares := map[string]int{}
	for user := range 500 {
		first, err := called(byUser(ctx, fmt.Sprint(user)), conn, grpc.WaitForReady(true))
		require.NoError(t, err)
		again, err := called(byUser(ctx, fmt.Sprint(user)), conn, grpc.WaitForReady(true))
		require.NoError(t, err)
		if user > 50 { // the connections are there
			require.Equal(t, first, again)
		}
		shares[again]++
	}
	require.Greater(t, shares[heavy.addr], 4*shares[light.addr])
	require.Positive(t, shares[light.addr])
}

func TestWholeServiceConfigIsUsed(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	for range 2 {
		announced(t, c, "cart", discovery.Instance{})
	}
	conn := dialled(t, c, "cart", grpcresolver.WithServiceConfig(`{"loadBalancingConfig":[{"pick_first":{}}]}`))
	from, err := called(within(t, patience), conn)
	require.NoError(t, err)
	for range 50 {
		again, err := called(within(t, patience), conn)
		require.NoError(t, err)
		require.Equal(t, from, again)
	}
}

func TestBadBuildersAndTargetsAreRefused(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	for name, b := range map[string]*grpcresolver.Builder{
		"nil client":       grpcresolver.NewBuilder(nil),
		"nil option":       grpcresolver.NewBuilder(c, nil),
		"negative time":    grpcresolver.NewBuilder(c, grpcresolver.WithWarm(-1)),
		"no policy":        grpcresolver.NewBuilder(c, grpcresolver.WithPolicy("", "")),
		"config, not JSON": grpcresolver.NewBuilder(c, grpcresolver.WithPolicy("round_robin", "{")),
		"whole, not JSON":  grpcresolver.NewBuilder(c, grpcresolver.WithServiceConfig("x")),
		"empty":            grpcresolver.NewBuilder(c, grpcresolver.WithServiceConfig("")),
		"whole and a part": grpcresolver.NewBuilder(c, grpcresolver.WithServiceConfig("{}"), grpcresolver.WithHealthCheck("")),
	} {
		require.ErrorIs(t, b.Err(), etcd.ErrInvalidArgument, name)
		_, err := called(within(t, patience), dialledWith(t, "etcd:///cart", grpc.WithResolvers(b)))
		require.ErrorContains(t, err, "invalid argument", name)
	}
	good := grpcresolver.NewBuilder(c)
	require.NoError(t, good.Err())
	for target, why := range map[string]string{
		"etcd:///":                             "not a target like etcd:///service",
		"etcd://cart":                          "not a target like etcd:///service",
		"etcd://cart/cart":                     "not a target like etcd:///service",
		"etcd:///%ff":                          "name of a service that is not UTF-8",
		"etcd:///" + strings.Repeat("x", 4097): "name of a service of 4097 bytes",
		"etcd:///" + strings.Repeat("%00", 10_000): "name of a service of 10000 bytes",
	} {
		_, err := called(within(t, patience), dialledWith(t, target, grpc.WithResolvers(good)))
		require.ErrorContains(t, err, why)
	}
}

// namings are ways to resolve a service: this library's, and etcd's own. announce registers an
// address.
func namings(c *etcd.Client) map[string]func(t *testing.T, service string) (grpc.DialOption, func(addr string)) {
	return map[string]func(t *testing.T, service string) (grpc.DialOption, func(addr string)){
		"this library": func(t *testing.T, service string) (grpc.DialOption, func(string)) {
			return grpc.WithResolvers(grpcresolver.NewBuilder(c)), func(addr string) {
				_, err := discovery.Register(within(t, patience), c, service, discovery.Instance{Address: addr})
				require.NoError(t, err)
			}
		},
		"etcd's own": func(t *testing.T, service string) (grpc.DialOption, func(string)) {
			b, err := naming.NewBuilder(c.Raw())
			require.NoError(t, err)
			m, err := endpoints.NewManager(c.Raw(), service)
			require.NoError(t, err)
			lease, err := c.Grant(within(t, patience), time.Minute)
			require.NoError(t, err)
			return grpc.WithResolvers(b), func(addr string) {
				require.NoError(t, m.AddEndpoint(within(t, patience), service+"/"+addr, endpoints.Endpoint{Addr: addr}, clientv3.WithLease(clientv3.LeaseID(lease))))
			}
		},
	}
}

// The figures are printed.
func TestKilledInstanceFailsOnlyCallsInFlight(t *testing.T) {
	t.Parallel()
	const kills, callers = 10, 8
	c := client(t, config(server(t)))
	for name, rival := range namings(c) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := "cart " + name
			resolve, announce := rival(t, service)
			ends := &farewells{}
			stays := newCallee(t)
			announce(stays.addr)
			conn := dialledWith(t, "etcd:///"+service, resolve, grpc.WithStatsHandler(ends),
				grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
			var failed, late, answered int64
			for range kills {
				victim := newCallee(t)
				announce(victim.addr)
				require.Eventually(t, func() bool {
					_, _ = called(within(t, patience), conn)
					return victim.calls.Load() > 0
				}, patience, time.Millisecond)
				tr := &callTraffic{}
				tr.begin(t, conn, callers, func() bool { return ends.has(victim.addr) })
				tr.more(t, 100)
				victim.server.Stop()
				tr.more(t, 200)
				tr.end()
				failed, late, answered = failed+tr.failed.Load(), late+tr.late.Load(), answered+tr.answered.Load()
				require.LessOrEqual(t, tr.failed.Load(), int64(callers), "one call in flight for each caller")
			}
			t.Logf("%s: %.1f calls failed per kill, of %d callers (%d calls answered); begun after the connection's end: %d",
				name, float64(failed)/kills, callers, answered, late)
			require.Zero(t, late)
		})
	}
}

// While they are cut off from etcd, one instance ends, and another one takes its place; the
// history is compacted meanwhile.
func TestResolverFindsWhatACompactionHides(t *testing.T) {
	t.Parallel()
	o := newOutage(t, etcd.DefaultConfig(), server(t))
	ctx := within(t, patience)
	a, first := announced(t, o.direct, "cart", discovery.Instance{})
	conn := dialled(t, o.c, "cart")
	callsGo(t, conn, a)
	o.begin()
	require.NoError(t, first.Close(ctx))
	b, _ := announced(t, o.direct, "cart", discovery.Instance{})
	revision, err := o.direct.Revision(ctx)
	require.NoError(t, err)
	require.NoError(t, second(o.direct.Raw().Compact(ctx, revision)))
	callsGo(t, conn, a) // what is known
	o.proxy.Heal()
	callsGo(t, conn, b)
}
