package grpcresolver

import (
	"fmt"

	_ "google.golang.org/grpc/health" // asks for the health, where WithHealthCheck wants it
	"google.golang.org/grpc/resolver"

	"github.com/blueprint-go/etcd"
)

// Scheme is that of the targets: "etcd:///cart".
const Scheme = "etcd"

// Builder makes gRPC's resolvers of one client of etcd. It implements [resolver.Builder], is safe
// for concurrent use and need not be closed. Make one with [NewBuilder].
type Builder struct {
	client  *etcd.Client
	options options
}

// NewBuilder returns a builder for [grpc.WithResolvers], or for [resolver.Register]. It sends
// nothing. What is wrong with the client or the options is the error of every connection: it
// matches [etcd.ErrInvalidArgument], and [Builder.Err] returns it at once.
//
// The connections must be closed before the client, which they need until then.
func NewBuilder(client *etcd.Client, opts ...Option) *Builder {
	b := &Builder{client: client, options: optionsOf(opts)}
	if client.Raw() == nil && b.options.err == nil {
		b.options.err = fmt.Errorf("%w: nil client, or a zero one", etcd.ErrInvalidArgument)
	}
	return b
}

// Err returns what is wrong with the client or the options; nil if nothing is.
func (b *Builder) Err() error {
	if b.options.err == nil {
		return nil
	}
	return &etcd.Error{Op: "resolve", Err: b.options.err}
}

// Scheme implements [resolver.Builder].
func (b *Builder) Scheme() string { return Scheme }

// Build implements [resolver.Builder]. gRPC calls it when a connection is first used, and when it
// wakes up. A target without a service, or with a host, fails with [etcd.ErrInvalidArgument].
func (b *Builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	if err := b.Err(); err != nil {
		return nil, err
	}
	service := target.Endpoint()
	if service == "" || target.URL.Host != "" {
		err := fmt.Errorf("%w: not a target like etcd:///service", etcd.ErrInvalidArgument)
		return nil, &etcd.Error{Op: "resolve", Key: target.URL.String(), Err: err}
	}
	return begin(b, service, cc), nil
}
