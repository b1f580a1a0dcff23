package discovery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/blueprint-go/etcd"
)

// Registration keeps an instance of a service registered. It is safe for concurrent use. Make
// one with [Register] and end it with [Registration.Close]; the zero value is not usable. It has
// one goroutine, and a watch of its key.
type Registration struct {
	client  *etcd.Client
	service string
	id      string
	key     string
	name    string // unique to this registration, see record
	opts    registerOptions
	keeper  *keeper
	status  *told

	base   context.Context // for requests; it ends with nothing
	ctx    context.Context // ends with the registration
	cancel context.CancelCauseFunc
	forget func() bool // that the client ends it
	closed sync.Once   // by Close
	left   sync.Once

	// turn is taken by whoever changes the key, and guards what follows. It is held over
	// requests, and therefore is no mutex: waiting for it ends with a context.
	turn chan struct{}
	want Instance
	// put is what was put last; nil if want was not put yet.
	put      []byte
	revision int64         // of the last put that is known to stand; 0 for none
	session  *etcd.Session // that it was put under
	orphaned bool          // the session of WithSession is gone
	doubt    bool          // a put may yet arrive

	wanted chan struct{} // holds one if the key should be looked after
}

// ID returns the id of the instance.
func (r *Registration) ID() string { return r.id }

// Service returns the name of the service.
func (r *Registration) Service() string { return r.service }

// Key returns the key under which the instance lies in etcd.
func (r *Registration) Key() string { return r.key }

// Context returns a context that ends with the registration, and not with what it recovers from.
// Its [context.Cause] is an [etcd.ErrClosed] that says what was closed: the registration, the
// session of [WithSession], or the client.
func (r *Registration) Context() context.Context { return r.ctx }

// Status returns what has become of the registration. It takes no request.
func (r *Registration) Status() Status {
	now, _, _ := r.status.get()
	return now
}

// StatusChanges returns the status, and each that follows. A loop that is slower than they are
// gets the newest. It ends after the status of a registration that has ended, and when ctx does;
// with a nil context it is empty. The body runs in the caller's goroutine.
func (r *Registration) StatusChanges(ctx context.Context) iter.Seq[Status] {
	return r.status.changes(ctx)
}

// Update replaces what is registered, in one round trip. The instance keeps its ID: another one
// is refused with [etcd.ErrInvalidArgument], and an empty one stands for it.
//
// If Update fails, the registration goes on trying, so that the instance is changed once etcd
// can be reached. Only [etcd.ErrInvalidArgument], [etcd.ErrTooLarge], [etcd.ErrClosed] and
// [etcd.ErrLockLost] mean that it never will be, and so does the end of ctx before the change of
// another Update was done.
func (r *Registration) Update(ctx context.Context, instance Instance) error {
	return r.change(ctx, "update registration", func(old Instance) (Instance, error) {
		if instance.ID == "" {
			instance.ID = old.ID
		}
		if instance.ID != old.ID {
			return old, fmt.Errorf("%w: another id", etcd.ErrInvalidArgument)
		}
		return instance.clone(), nil
	})
}

// Drain marks the instance as about to stop, in one round trip: clients give it no new calls, as
// soon as they learn of it. Calls that they have made go on, and the instance stays registered
// until [Registration.Close]. What is said of Update after a failure holds for Drain.
func (r *Registration) Drain(ctx context.Context) error {
	return r.change(ctx, "drain", func(old Instance) (Instance, error) {
		old.Draining = true
		return old, nil
	})
}

func (r *Registration) change(ctx context.Context, op string, f func(Instance) (Instance, error)) error {
	if ctx == nil {
		return r.failed(op, etcd.ErrNilContext)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.ctx, func() { cancel(context.Cause(r.ctx)) })()
	if err := r.take(ctx); err != nil {
		return r.failed(op, err)
	}
	defer r.pass()
	next, err := f(r.want)
	if err == nil {
		_, err = next.encode(r.name)
	}
	if err != nil {
		return r.failed(op, err)
	}
	before, put := r.want, r.put
	r.want, r.put = next, nil
	err = r.stand(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, etcd.ErrLockLost) && !r.doubt:
		r.want, r.put = before, put
	case r.ctx.Err() != nil:
		err = context.Cause(r.ctx)
	}
	r.signal()
	return r.failed(op, err)
}

// Close removes the instance and ends the registration, in one round trip, or two for the last
// registration on the lease. If the server can't be reached it returns the error; the instance
// is then removed in the background, or ends with its lease; without a deadline in ctx, that takes
// [etcd.Config.RequestTimeout] at most. After the first call Close returns nil. Close
// registrations before their client: afterwards the first Close fails with [etcd.ErrClosed] if the
// instance is left behind.
func (r *Registration) Close(ctx context.Context) error {
	if ctx == nil {
		return r.failed(opClose, etcd.ErrNilContext)
	}
	r.end(errClosed)
	var err error
	r.closed.Do(func() { err = r.close(etcd.Unguarded(ctx)) })
	return err
}

func (r *Registration) close(ctx context.Context) error {
	left, err := r.leave(ctx)
	if left {
		return err
	}
	// The client or the session of WithSession was closed before, which nobody waited for.
	if _, err = r.erase(ctx); errors.Is(err, etcd.ErrClosed) {
		return r.failed(opClose, etcd.ErrClosed)
	}
	return r.failed(opClose, err)
}

// end ends the registration, for the reason that is given first.
func (r *Registration) end(why error) {
	r.cancel(why)
	r.status.end(context.Cause(r.ctx))
}

// leave removes the instance of a registration that has ended, once. It reports whether this
// call did.
func (r *Registration) leave(ctx context.Context) (did bool, err error) {
	r.left.Do(func() {
		did = true
		doubt, failed := r.erase(ctx)
		living.Delete(r.name)
		r.forget()
		away := etcd.IsRetryable(failed)
		release, cancel := context.WithCancel(ctx)
		defer cancel()
		if away { // the lease isn't waited for as well
			cancel()
		}
		last, lease := r.keeper.release(release)
		if (failed != nil || doubt) && (!last || r.opts.session != nil) { // otherwise it goes with the lease
			go r.sweep()
		}
		if away {
			lease = nil
		}
		err = r.failed(opClose, failed, lease)
	})
	return did, err
}

// erase removes the instance, if it is there. It reports whether a put may yet arrive.
func (r *Registration) erase(ctx context.Context) (doubt bool, err error) {
	if err := r.take(ctx); err != nil {
		return false, err
	}
	defer r.pass()
	if r.revision != 0 || r.doubt {
		err = r.remove(ctx)
	}
	return r.doubt, err
}

// abandon is leave without waiting for the server.
func (r *Registration) abandon() {
	gone, cancel := context.WithCancel(r.base)
	cancel()
	_, _ = r.leave(gone)
}

// take takes the turn.
func (r *Registration) take(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

// pass gives the turn back.
func (r *Registration) pass() { <-r.turn }

// signal has the key looked after.
func (r *Registration) signal() {
	select {
	case r.wanted <- struct{}{}:
	default:
	}
}

// failed returns the error of a call on this registration: see as.
func (r *Registration) failed(op string, errs ...error) error { return as(op, r.key, errs...) }

const opClose = "close registration"
