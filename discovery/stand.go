package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/blueprint-go/etcd"
)

// stand has the instance stand as it is wanted, under a lease that lives. Where everything is in
// order as far as is known, it sends nothing. The turn is taken.
func (r *Registration) stand(ctx context.Context) error {
	for {
		s, err := r.lease(ctx)
		if err != nil {
			return err
		}
		if r.revision != 0 && r.put != nil && r.session == s {
			r.status.registered(s.Lease(), r.revision)
			return nil
		}
		err = r.store(ctx, s)
		if !errors.Is(err, etcd.ErrLeaseNotFound) {
			return err
		}
		// The session will learn of it by its next renewal.
		r.keeper.forget(s)
		r.orphaned = r.orphaned || s == r.opts.session
	}
}

// lease returns the session that the key is to be attached to.
func (r *Registration) lease(ctx context.Context) (*etcd.Session, error) {
	if r.ctx.Err() != nil {
		return nil, context.Cause(r.ctx)
	}
	if s := r.opts.session; s != nil && !r.orphaned {
		cause := context.Cause(s.Context())
		switch {
		case cause == nil:
			return s, nil
		case errors.Is(cause, etcd.ErrClosed):
			r.end(cause)
			return nil, cause
		}
		r.orphaned = true
	}
	return r.keeper.lease(ctx)
}

// store puts the instance: over what the registration has put itself, over what is nobody's
// registration, or where there is nothing.
func (r *Registration) store(ctx context.Context, s *etcd.Session) error {
	value, err := r.want.encode(r.name)
	if err != nil {
		return err
	}
	at := r.revision
	for {
		var done *etcd.TxnResult
		done, err = r.client.Txn().If(etcd.ModRevision(r.key).Equal(at)).
			Then(etcd.OpPut(r.key, value, etcd.WithLease(s.Lease()))).Commit(ctx)
		switch {
		case err != nil:
			r.doubt = r.doubt || etcd.MaybeApplied(err)
			return err
		case done.Succeeded:
			r.stored(value, done.Revision, s)
			return nil
		}
		found, what, err := r.look(ctx, s.Lease())
		switch {
		case err != nil:
			return err
		case what == anothers:
			r.revision, r.put = 0, nil
			return fmt.Errorf("%w: %q", ErrDuplicateInstance, r.id)
		case what == own && found.Lease == s.Lease() && bytes.Equal(found.Value, value):
			r.stored(value, found.ModRevision, s) // by a request whose answer was lost
			return nil
		}
		at = found.ModRevision
	}
}

// stored notes that the instance stands.
func (r *Registration) stored(value []byte, revision int64, s *etcd.Session) {
	r.put, r.revision, r.session = value, revision, s
	r.status.registered(s.Lease(), revision)
}

// whose says what lies under the key.
type whose int

const (
	nothing  whose = iota
	own            // a put of this registration
	nobodys        // no registration, or one without a lease
	anothers       // a registration whose lease lives
)

// living holds the names of the registrations of this process that have not ended. No other
// process puts instances under a lease of this one, so that what lies under such a lease, and
// under no name of these, is nobody's.
var living sync.Map

// look reads the key. The lease is that which the instance is to be attached to.
func (r *Registration) look(ctx context.Context, lease etcd.LeaseID) (etcd.KeyValue, whose, error) {
	kv, err := r.client.GetKV(ctx, r.key)
	if errors.Is(err, etcd.ErrKeyNotFound) {
		return etcd.KeyValue{}, nothing, nil
	}
	var stored etcd.TypedValue[record]
	if err == nil {
		stored, err = etcd.NewTypedWith(r.client, "", encoding{}).Decode(kv)
	}
	if _, undecodable := errors.AsType[*etcd.DecodeError](err); err != nil && !undecodable {
		return kv, nothing, err
	}
	_, lives := living.Load(stored.Value.Registration)
	switch {
	case err == nil && stored.Value.Registration == r.name:
		return kv, own, nil
	case kv.Lease == 0, kv.Lease == lease && !lives:
		return kv, nobodys, nil
	case errors.Is(err, etcd.ErrEncoding):
		return kv, nobodys, nil // what is no instance is overwritten
	}
	return kv, anothers, nil // also of a client with another key, or with one
}

// verify looks whether the instance stands as it was put. If not, stand puts it again. The turn
// is taken.
func (r *Registration) verify(ctx context.Context) error {
	if r.revision == 0 {
		return nil
	}
	found, _, err := r.look(ctx, r.session.Lease())
	switch {
	case err != nil:
		return err
	case found.ModRevision == 0:
		r.revision = 0
		r.status.lost(errDeleted)
	case found.ModRevision != r.revision || found.Lease != r.session.Lease():
		r.put = nil
		r.status.lost(errOverwritten)
	}
	return nil
}

// remove deletes what the registration has put, if it is there. The turn is taken.
func (r *Registration) remove(ctx context.Context) error {
	at := r.revision
	for at != 0 || r.doubt {
		if at != 0 {
			done, err := r.client.Txn().If(etcd.ModRevision(r.key).Equal(at)).Then(etcd.OpDelete(r.key)).Commit(ctx)
			if err != nil {
				return err
			}
			if done.Succeeded {
				break
			}
		}
		found, what, err := r.look(ctx, 0)
		if err != nil {
			return err
		}
		if what != own {
			break
		}
		at = found.ModRevision
	}
	r.revision, r.put = 0, nil
	return nil
}
