package grpcresolver

import (
	"context"
	"errors"

	"google.golang.org/grpc/resolver"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
)

// running tells one connection of the instances of one service. It has one goroutine.
type running struct {
	builder *Builder
	service string
	cc      resolver.ClientConn
	cancel  context.CancelFunc
	done    chan struct{}
}

func begin(b *Builder, service string, cc resolver.ClientConn) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{builder: b, service: service, cc: cc, cancel: cancel, done: make(chan struct{})}
	go r.run(ctx)
	return r
}

// ResolveNow implements [resolver.Resolver]. There is nothing to do: what changes is told
// anyway.
func (r *running) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements [resolver.Resolver].
func (r *running) Close() {
	r.cancel()
	<-r.done
}

// run tells the connection what is known of the service, until the resolver is closed. With the
// client's end it keeps what it has.
func (r *running) run(ctx context.Context) {
	defer close(r.done)
	o := r.builder.options
	config := r.cc.ParseServiceConfig(o.serviceConfig())
	found := false
	for service, err := range discovery.Watch(ctx, r.builder.client, r.service, discovery.WithPrefix(o.prefix), discovery.WithWarm(o.warm)) {
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			found = true
			// What is wrong with it is told to the calls, and trying again doesn't help.
			_ = r.cc.UpdateState(resolver.State{Endpoints: endpointsOf(service.Instances), ServiceConfig: config})
		case errors.Is(err, discovery.ErrUnknownService):
			if found {
				r.forget()
			}
			found = false
			r.cc.ReportError(reported(err))
		case !found:
			r.cc.ReportError(reported(err))
		}
	}
}

// nobody is the policy of a service without instances: round_robin and others would not tell the
// calls why there are none.
const nobody = `{"loadBalancingConfig":[{"pick_first":{}}]}`

// forget has no calls go to instances that are gone. For a moment they fail without a reason.
func (r *running) forget() {
	_ = r.cc.UpdateState(resolver.State{Endpoints: []resolver.Endpoint{}, ServiceConfig: r.cc.ParseServiceConfig(nobody)})
}

// reported returns err as calls that it fails are to report it, with the code Unavailable. It has
// none of its own: then calls would fail that wait for ready.
func reported(err error) error {
	if e, is := errors.AsType[*etcd.Error](err); is && e.Op == "watch service" {
		err = &etcd.Error{Op: "resolve", Key: e.Key, Err: e.Err}
	}
	return err
}
