package discovery

import (
	"context"
	"iter"

	"github.com/blueprint-go/etcd"
)

const opWatch = "watch service"

// Watch returns what is known of a service, and whatever follows: it begins with the present
// instances, and a loop that is slower than their changes gets the newest. While etcd is away
// nothing comes, and what came last holds on.
//
// The error beside a state doesn't end the loop: it is [ErrUnknownService], with the name, for as
// long as the service has no instance, and otherwise why the service could not be read yet, at
// the first time after [etcd.Config.RequestTimeout]. An instance that can't be decoded is in
// [Service.Bad]. The loop ends when ctx does. If the client is closed, or an argument is no
// good, the last pair says so: its error matches [etcd.ErrClosed], [etcd.ErrNilContext],
// [etcd.ErrInvalidArgument] or [etcd.ErrTooLarge].
//
// All loops of a client over one service share a mirror of it (see package mirror), which takes
// two round trips to load; a loop that begins while there is one takes none. [WithWarm] keeps it
// for later ones. After a restore of the cluster to an older revision, the instances that it has
// taken away are kept until they are registered again, for half a minute. The user needs the
// permission that [Instances] needs.
//
// What is returned may be used for several loops. The body runs in the caller's goroutine.
func Watch(ctx context.Context, client *etcd.Client, service string, opts ...LookupOption) iter.Seq2[Service, error] {
	return func(yield func(Service, error) bool) {
		o, err := lookupOptionsOf(opts)
		var place string
		if err == nil {
			place, err = checkLookup(ctx, client, o.prefix, service)
		}
		if err != nil {
			yield(Service{Name: service}, fail(opWatch, service, err))
			return
		}
		v := viewOf(client, service, place, o.warm)
		defer v.leave()
		v.follow(ctx, yield)
	}
}

// follow yields what is known, and what follows.
func (v *view) follow(ctx context.Context, yield func(Service, error) bool) {
	for ctx.Err() == nil {
		now := v.newest()
		if now.loaded || now.err != nil {
			err := now.err
			if err == nil && len(now.service.Instances) == 0 {
				err = fail(opWatch, v.service, ErrUnknownService)
			}
			if !yield(now.service, err) {
				return
			}
		}
		select {
		case <-now.over:
		case <-ctx.Done():
		case <-v.ctx.Done():
			yield(now.service, as(opWatch, v.service, context.Cause(v.ctx)))
			return
		}
	}
}
