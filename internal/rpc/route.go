package rpc

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/roundrobin"
)

// Requests are spread over the endpoints in turn, as by clientv3. But when
// requests run at the same time, taking turns does not send the second attempt
// of one of them elsewhere: it may meet the same silent member again and again
// while others take the turns in between. So a request remembers the connections
// it was sent on, and takes one that it has not tried yet.

// elsewhere is gRPC's round_robin for requests with a route.
type elsewhere struct{ balancer.Builder }

const elsewhereName = "blueprint_etcd_elsewhere"

func init() {
	balancer.Register(elsewhere{balancer.Get(roundrobin.Name)})
}

// balanceOptions makes a connection use elsewhere, and says what holds for all of its calls:
// they wait for a connection, and messages may have send bytes. As default options of calls
// the latter would cost each of them an allocation. The policy that clientv3's resolver asks
// for would take precedence if it weren't switched off.
func balanceOptions(send int) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(fmt.Sprintf(`{
			"loadBalancingConfig": [{%q: {}}],
			"methodConfig": [{"name": [{}], "waitForReady": true, "maxRequestMessageBytes": %d, "maxResponseMessageBytes": %d}]
		}`, elsewhereName, send, math.MaxInt32)),
	}
}

// Name implements [balancer.Builder].
func (elsewhere) Name() string { return elsewhereName }

// Build implements [balancer.Builder].
func (e elsewhere) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return e.Builder.Build(elsewhereConn{cc, newAvoidance()}, opts)
}

// elsewhereConn puts an elsewherePicker before each picker of round_robin.
type elsewhereConn struct {
	balancer.ClientConn
	avoided *avoidance
}

func (c elsewhereConn) UpdateState(s balancer.State) {
	s.Picker = elsewherePicker{s.Picker, c.avoided}
	c.ClientConn.UpdateState(s)
}

type elsewherePicker struct {
	next    balancer.Picker
	avoided *avoidance
}

// maxPicks bounds the search. Only when others take turns at the same time are
// more picks needed than there are endpoints.
const maxPicks = 32

// Pick implements [balancer.Picker].
func (p elsewherePicker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	r, _ := info.Ctx.Value(routeKey{}).(*Route)
	picked, err := p.search(info, func(conn balancer.SubConn) bool { return !r.tried(conn) && !p.avoided.has(conn) })
	if err == nil && r != nil {
		if r.tried(picked.SubConn) && p.avoided.some.Load() {
			// Better one that is avoided than one that has failed this request.
			picked, err = p.search(info, func(conn balancer.SubConn) bool { return !r.tried(conn) })
		}
		if err == nil {
			r.take(picked.SubConn, p.avoided)
		}
	}
	return picked, err
}

// search picks until suits likes what was picked, or gives up.
func (p elsewherePicker) search(info balancer.PickInfo, suits func(balancer.SubConn) bool) (balancer.PickResult, error) {
	picked, err := p.next.Pick(info)
	for n := 1; n < maxPicks && err == nil && !suits(picked.SubConn); n++ {
		picked, err = p.next.Pick(info)
	}
	return picked, err
}

// Route is where the attempts of one request went.
type Route struct {
	mu      sync.Mutex
	taken   []balancer.SubConn
	avoided *avoidance // of the client whose connections they are
}

// routeKey is the key of the route in a context.
type routeKey struct{}

// WithRoute returns a context for all attempts of one request, and of others that are
// begun with it.
func WithRoute(ctx context.Context) context.Context {
	if _, ok := ctx.Value(routeKey{}).(*Route); ok {
		return ctx
	}
	return OnRoute(ctx, &Route{})
}

// OnRoute returns a context for attempts that go on with a route.
func OnRoute(ctx context.Context, r *Route) context.Context {
	return context.WithValue(ctx, routeKey{}, r)
}

// tried reports whether an attempt was made on conn; a nil route has made none.
func (r *Route) tried(conn balancer.SubConn) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.taken, conn)
}

// take notes conn. If it was taken before, all were: a new round begins.
func (r *Route) take(conn balancer.SubConn, avoided *avoidance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.avoided = avoided
	if slices.Contains(r.taken, conn) {
		r.taken = r.taken[:0]
	}
	r.taken = append(r.taken, conn)
}
