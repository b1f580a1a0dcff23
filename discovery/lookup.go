package discovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/blueprint-go/etcd"
)

// Service is what is known of a service at one moment. It never changes; don't modify what it
// holds.
type Service struct {
	// Name is the name of the service.
	Name string
	// Instances are its instances, those that drain included, in the order of their IDs.
	Instances []Instance
	// Bad are those that could not be decoded, each with the reason, by ID, or by what stands in
	// its place in the key if that is none.
	Bad map[string]error
	// Revision is the revision of etcd that this is of.
	Revision int64
}

const opInstances = "instances"

// Instances returns the instances of a service, those that drain included, in the order of their
// IDs: all that were registered before the call. It takes two round trips, or one that checks
// whether they are up to date where a [Watch] of the same client has them in memory; if that
// fails there, the instances as last known are returned together with the error.
//
// A service without instances is [ErrUnknownService]. If some can't be decoded, the error joins
// an [*etcd.DecodeError] for each, in the order of their IDs, and the others are returned. The
// user needs permission to read the keys of the service: those that begin with the prefix, its
// escaped name and a slash.
func Instances(ctx context.Context, client *etcd.Client, service string, opts ...LookupOption) ([]Instance, error) {
	o, err := lookupOptionsOf(opts)
	if err == nil && o.warm != 0 {
		err = fmt.Errorf("%w: WithWarm, which is for Watch", etcd.ErrInvalidArgument)
	}
	var place string
	if err == nil {
		place, err = checkLookup(ctx, client, o.prefix, service)
	}
	if err != nil {
		return nil, fail(opInstances, service, err)
	}
	var found Service
	if v := warmView(client, place); v != nil {
		found, err = v.fresh(ctx)
	} else {
		found, err = read(ctx, client, place)
	}
	var bad []error
	for _, id := range slices.Sorted(maps.Keys(found.Bad)) {
		bad = append(bad, found.Bad[id])
	}
	err = as(opInstances, service, err)
	if len(bad) > 0 {
		err = errors.Join(append(bad, err)...)
	}
	if err == nil && len(found.Instances) == 0 {
		err = fail(opInstances, service, ErrUnknownService)
	}
	return found.Instances, err
}

func checkLookup(ctx context.Context, client *etcd.Client, prefix, service string) (place string, err error) {
	if ctx == nil {
		return "", etcd.ErrNilContext
	}
	if client.Raw() == nil {
		return "", fmt.Errorf("%w: nil client, or a zero one", etcd.ErrInvalidArgument)
	}
	return placeOf(prefix, service)
}

// read returns what is stored at a place.
func read(ctx context.Context, client *etcd.Client, place string) (Service, error) {
	var found Service
	for v, err := range etcd.NewTypedWith(client, place, encoding{}).All(ctx) {
		if _, undecoded := errors.AsType[*etcd.DecodeError](err); err != nil && !undecoded {
			return found, err
		}
		found.add(place, v.Name, v.Value, err)
	}
	found.sort()
	return found, nil
}

// sort puts the instances in the order of their IDs, from that of their keys.
func (s *Service) sort() {
	slices.SortFunc(s.Instances, func(a, b Instance) int { return strings.Compare(a.ID, b.ID) })
}

// equal reports whether two states of a service hold the same.
func (s Service) equal(other Service) bool {
	return reflect.DeepEqual(s.Instances, other.Instances) &&
		maps.EqualFunc(s.Bad, other.Bad, func(a, b error) bool { return a.Error() == b.Error() })
}

// add adds an instance, or why there is none.
func (s *Service) add(place, rest string, r record, err error) {
	id, notOne := idOf(rest)
	if notOne != nil {
		id = rest
	}
	if err == nil && notOne != nil {
		err = &etcd.DecodeError{Key: place + rest, Err: notOne}
	}
	if err == nil {
		s.Instances = append(s.Instances, r.instance(id))
		return
	}
	if s.Bad == nil {
		s.Bad = map[string]error{}
	}
	s.Bad[id] = err
}
