package discovery

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/blueprint-go/etcd"
)

const opRegister = "register"

// Register registers an instance of a service and keeps it registered until
// [Registration.Close] or the end of the client, whatever happens meanwhile: see the package
// comment. It returns when the instance can be found, after one round trip, or two for the
// first registration of the client; [WithBackground] returns at once. The end of ctx doesn't
// end the registration. Its user needs permission to read and write the key.
//
// It fails, and leaves nothing behind, with [ErrDuplicateInstance] if another registration has
// the id and its lease lives; with [etcd.ErrInvalidArgument], [etcd.ErrTooLarge] (64 KiB, and 4 KiB
// for each of the prefix, the name of the service and the ID) or [etcd.ErrInvalidTTL] for what
// can't be registered, and then nothing is sent; and otherwise with the error of the
// request. A key under the id that is nobody's registration is replaced.
//
// With a context of [etcd.Lock.Guard] the first put is bound to the lock; the registration then
// goes on whoever holds it. [WithBackground] refuses such a context.
func Register(ctx context.Context, client *etcd.Client, service string, instance Instance, opts ...RegisterOption) (*Registration, error) {
	r, err := newRegistration(ctx, client, service, instance, opts)
	if err != nil {
		return nil, fail(opRegister, service, err)
	}
	if r.opts.background {
		go r.run()
		return r, nil
	}
	if err := r.first(ctx); err != nil {
		return nil, err
	}
	go r.run()
	return r, nil
}

func newRegistration(ctx context.Context, client *etcd.Client, service string, instance Instance, opts []RegisterOption) (*Registration, error) {
	o := registerOptions{prefix: DefaultPrefix, ttl: etcd.DefaultLockTTL, logger: slog.Default()}
	if err := optionsOf(opts, &o, RegisterOption.applyRegister); err != nil {
		return nil, err
	}
	if ctx == nil {
		return nil, etcd.ErrNilContext
	}
	if client.Raw() == nil {
		return nil, fmt.Errorf("%w: nil client, or a zero one", etcd.ErrInvalidArgument)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.session != nil && o.session.Client() != client {
		return nil, fmt.Errorf("%w: session of another client", etcd.ErrInvalidArgument)
	}
	if o.background && isGuarded(ctx) {
		return nil, fmt.Errorf("%w: WithBackground with a guarded context", etcd.ErrInvalidArgument)
	}
	place, err := placeOf(o.prefix, service)
	if err == nil {
		err = checkName("id", instance.ID)
	}
	if err != nil {
		return nil, err
	}
	if instance.ID == "" {
		instance.ID = strings.ToLower(rand.Text())
	}
	r := &Registration{
		client: client, service: service, id: instance.ID, opts: o, name: rand.Text(),
		key: place + url.PathEscape(instance.ID), turn: make(chan struct{}, 1), wanted: make(chan struct{}, 1),
	}
	if _, err := instance.encode(r.name); err != nil {
		return nil, err
	}
	r.want = instance.clone()
	r.status = newTold(o.logger.With(slog.String("service", service), slog.String("id", instance.ID)))
	r.base = etcd.Unguarded(context.WithoutCancel(ctx))
	r.ctx, r.cancel = context.WithCancelCause(r.base)
	r.keeper = keeperOf(client, o.ttl)
	living.Store(r.name, nil)
	r.forget = context.AfterFunc(client.Raw().Ctx(), func() { r.end(etcd.ErrClosed) })
	return r, nil
}

// isGuarded reports whether writes with ctx are bound to a lock. What it compares are pointers,
// whatever the type of ctx.
func isGuarded(ctx context.Context) bool {
	type probe struct{}
	ctx = context.WithValue(ctx, probe{}, nil)
	return etcd.Unguarded(ctx) != ctx
}

// first registers the instance for the first time, for a caller who waits for it.
func (r *Registration) first(ctx context.Context) error {
	registered := false
	defer func() { // also when a hook panics
		if !registered {
			r.end(errClosed)
			r.abandon()
		}
	}()
	r.turn <- struct{}{}
	defer r.pass()
	if err := r.stand(ctx); err != nil {
		return r.failed(opRegister, err)
	}
	registered = true
	return nil
}
