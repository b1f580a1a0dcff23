package grpcresolver

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/discovery"
)

// Option changes [NewBuilder]: [WithPrefix], [WithPolicy], [WithHealthCheck],
// [WithServiceConfig] and [WithWarm].
type Option interface{ apply(*options) }

type options struct {
	prefix string
	warm   time.Duration
	policy string
	config string // of the policy
	health *string
	whole  string // a service config of the caller's
	err    error
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// DefaultWarm is for how long instances are kept in memory, and up to date, after the last
// connection to their service has ended or fallen asleep.
const DefaultWarm = time.Hour

// WithPrefix sets the prefix of the services, as [discovery.WithPrefix] does.
func WithPrefix(prefix string) Option { return optionFunc(func(o *options) { o.prefix = prefix }) }

// WithWarm keeps the instances in memory and up to date for d after the last connection to their
// service has ended or fallen asleep. The default is [DefaultWarm]; 0 keeps nothing, and negative
// durations are refused. The end of the etcd client ends it too.
func WithWarm(d time.Duration) Option { return optionFunc(func(o *options) { o.warm = d }) }

// WithPolicy sets the load-balancing policy by its name, with its config in JSON; an empty config
// means {}. The default is round_robin. Of others the package must be linked in:
//
//	import _ "google.golang.org/grpc/balancer/ringhash"
//
//	grpcresolver.WithPolicy("ring_hash_experimental", `{"requestHashHeader":"user"}`)
func WithPolicy(name, config string) Option {
	return optionFunc(func(o *options) {
		if name == "" {
			o.err = fmt.Errorf("%w: policy without a name", etcd.ErrInvalidArgument)
		}
		if config == "" {
			config = "{}"
		}
		o.policy, o.config = name, config
	})
}

// WithHealthCheck has gRPC ask each instance for its health, by the service of gRPC's health
// checking protocol that has this name (empty is the whole server), and give no calls to those
// that don't serve. round_robin heeds it.
func WithHealthCheck(service string) Option {
	return optionFunc(func(o *options) { o.health = &service })
}

// WithServiceConfig sets the whole service config, in JSON, instead of what [WithPolicy] and
// [WithHealthCheck] make of it; it is refused beside them. It is where retries and timeouts of
// methods are set. [grpc.WithDisableServiceConfig] has a connection ignore it.
func WithServiceConfig(config string) Option {
	return optionFunc(func(o *options) {
		if config == "" {
			o.err = fmt.Errorf("%w: empty service config", etcd.ErrInvalidArgument)
		}
		o.whole = config
	})
}

func optionsOf(opts []Option) options {
	o := options{prefix: discovery.DefaultPrefix, warm: DefaultWarm}
	for _, opt := range opts {
		if opt == nil {
			o.err = fmt.Errorf("%w: nil option", etcd.ErrInvalidArgument)
			return o
		}
		opt.apply(&o)
	}
	switch {
	case o.err != nil:
	case o.warm < 0:
		o.err = fmt.Errorf("%w: negative duration", etcd.ErrInvalidArgument)
	case o.whole != "" && (o.policy != "" || o.health != nil):
		o.err = fmt.Errorf("%w: a whole service config, and a part of it", etcd.ErrInvalidArgument)
	case !json.Valid([]byte(o.serviceConfig())):
		o.err = fmt.Errorf("%w: service config that is not JSON", etcd.ErrInvalidArgument)
	}
	return o
}

// serviceConfig returns the service config of a service with instances.
func (o options) serviceConfig() string {
	if o.whole != "" {
		return o.whole
	}
	policy, config := o.policy, o.config
	if policy == "" {
		policy, config = "round_robin", "{}"
	}
	out := fmt.Sprintf(`{"loadBalancingConfig":[{%s:%s}]`, quoted(policy), config)
	if o.health != nil {
		out += fmt.Sprintf(`,"healthCheckConfig":{"serviceName":%s}`, quoted(*o.health))
	}
	return out + "}"
}

func quoted(s string) string {
	out, _ := json.Marshal(s) // of a string it never fails
	return string(out)
}
