package grpcresolver

import (
	"reflect"

	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/ringhash"

	"github.com/blueprint-go/etcd/discovery"
)

type instanceKey struct{}

// attribute is an instance among the attributes of its endpoint.
type attribute struct{ discovery.Instance }

// Equal implements what gRPC compares attributes by.
func (a attribute) Equal(other any) bool { return reflect.DeepEqual(a, other) }

// InstanceOf returns the instance that an endpoint of this package stands for, and whether it is
// one. It is for load-balancing policies that heed zones, versions or metadata.
func InstanceOf(endpoint resolver.Endpoint) (discovery.Instance, bool) {
	a, ok := endpoint.Attributes.Value(instanceKey{}).(attribute)
	return a.Instance, ok
}

// endpointsOf returns the endpoints for the instances of a service: those that don't drain, or
// all if each does. Of those with one address the first counts.
func endpointsOf(instances []discovery.Instance) []resolver.Endpoint {
	for _, draining := range []bool{false, true} {
		var out []resolver.Endpoint
		seen := map[string]bool{}
		for _, i := range instances {
			if i.Draining == draining && !seen[i.Address] {
				seen[i.Address] = true
				out = append(out, endpointOf(i))
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

func endpointOf(i discovery.Instance) resolver.Endpoint {
	// Attributes of the address would have gRPC dial again when they change.
	e := resolver.Endpoint{Addresses: []resolver.Address{{Addr: i.Address}}}
	e.Attributes = e.Attributes.WithValue(instanceKey{}, attribute{i})
	e = ringhash.SetHashKey(e, i.ID)
	return weight.Set(e, weight.EndpointInfo{Weight: max(i.Weight, 1)})
}
