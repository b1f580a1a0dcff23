package barrier

import (
	"context"
	"errors"

	"github.com/blueprint-go/etcd"
)

// Barrier holds back all who wait at it, until its holder releases it. Make one with [New]; the
// zero value is not usable. It is safe for concurrent use, and can be held again after it was
// released.
type Barrier struct{ place *place }

// New returns the barrier of that name, in the state that it has. It sends nothing. Barriers of
// different names are apart, even if one name begins with the other. An empty name fails with
// [etcd.ErrEmptyKey], one that contains a NUL byte or a byte 1 with [etcd.ErrInvalidArgument], and
// one of more than 4 KiB with [etcd.ErrTooLarge].
func New(client *etcd.Client, name string, opts ...Option) (*Barrier, error) {
	p, err := newPlace(client, name, "barrier", opts)
	if err != nil {
		return nil, &etcd.Error{Op: "new barrier", Key: name, Err: err}
	}
	return &Barrier{p}, nil
}

// The key that shuts the barrier stays when its holder is lost; that of the holder goes.
func (b *Barrier) shut() string { return b.place.root + "shut" }

// holder is the prefix of the holder's key.
func (b *Barrier) holder() string { return b.place.root + "holder/" }

// Hold shuts the barrier, in one round trip and one for the lease. It fails with [ErrHeld] if it is
// held, and with [ErrLost] if the session of [WithSession] was lost. A hold of this Barrier that was
// lost is none. The end of ctx doesn't end the hold.
func (b *Barrier) Hold(ctx context.Context) error {
	const op = "hold barrier"
	p := b.place
	ctx, end, err := p.begin(ctx, coming, func(s *stay, now phase) error {
		if s.lives() && now == none {
			return ErrHeld
		}
		return nil
	})
	if err != nil {
		return p.fail(op, err)
	}
	defer end()
	s, err := p.newStay(ctx)
	if err != nil {
		return p.as(op, err)
	}
	s.key = b.holder() + s.id
	res, _, err := p.persist(ctx, p.client.Txn().
		If(etcd.PrefixEmpty(b.holder())).
		Then(etcd.OpPut(b.shut(), nil), etcd.OpPut(s.key, nil, etcd.WithLease(s.session.Lease()))).
		Else(etcd.OpListPrefix(s.key)))
	switch {
	case err != nil:
	case res.Succeeded:
		s.settle(res.Revision)
	case len(res.Results[0].KVs) > 0: // put by an earlier request
		s.settle(res.Results[0].KVs[0].CreateRevision)
	default:
		err = ErrHeld
	}
	if err != nil {
		if etcd.MaybeApplied(err) && !s.own {
			_ = p.drop(ctx, s) // else it ends with the lease
		}
		return p.as(op, err, s.end(ctx, err))
	}
	p.set(s)
	return nil
}

// Release opens the barrier: all who wait go on. It takes one round trip, and one for the lease. It
// fails with [ErrNotHeld] if this Barrier doesn't hold it, and with [ErrLost] if the hold was
// lost: then the barrier stays shut for those who wait, see [ErrHolderLost]. Either way it is no
// longer held by this Barrier. After any other failure it is, and Release can be called again.
func (b *Barrier) Release(ctx context.Context) error {
	const op = "release barrier"
	p := b.place
	ctx, end, err := p.begin(ctx, going, func(s *stay, now phase) error {
		if s == nil && now == none {
			return ErrNotHeld
		}
		return nil
	})
	if err != nil {
		return p.fail(op, err)
	}
	defer end()
	s := p.current()
	lost := s.lost()
	if lost == nil {
		res, inDoubt, err := p.persist(ctx, p.client.Txn().
			If(etcd.CreateRevision(s.key).Equal(s.created)).
			Then(etcd.OpDelete(b.shut()), etcd.OpDelete(s.key)).
			Else(etcd.OpListPrefix(b.shut())))
		s.doubt = s.doubt || inDoubt
		switch {
		case err != nil:
			return p.as(op, err)
		case !res.Succeeded && (!s.doubt || res.Results[0].Count > 0):
			lost = &lostError{errGone}
		}
	}
	p.set(nil)
	err = s.end(ctx, lost)
	if lost != nil {
		return p.fail(op, lost)
	}
	if err != nil && s.own {
		return nil // the barrier is open, and nothing hangs on the lease
	}
	return p.as(op, err)
}

// Wait returns when the barrier is open: at once if nobody holds it, and otherwise when its holder
// releases it. It fails with [ErrHolderLost] if the holder is lost before. It takes one round
// trip, and a watch.
func (b *Barrier) Wait(ctx context.Context) error {
	const op = "wait at barrier"
	p := b.place
	if err := p.check(ctx); err != nil {
		return p.fail(op, err)
	}
	for n := 0; ; n++ {
		over, err := b.wait(ctx)
		switch {
		case ctx.Err() != nil && !over:
			return p.fail(op, context.Cause(ctx))
		case over || err != nil && !passes(err):
			return p.as(op, err)
		}
		pause(ctx, backoff(n))
	}
}

// passes reports whether a failure of a read or a watch is one after which one looks again.
func passes(err error) bool {
	return errors.Is(err, etcd.ErrCompacted) || errors.Is(err, etcd.ErrRevisionRegressed) || etcd.IsRetryable(err)
}

// wait reports whether the wait is over.
func (b *Barrier) wait(ctx context.Context) (over bool, err error) {
	res, err := b.place.client.Txn().Then(etcd.OpListPrefix(b.shut()), etcd.OpListPrefix(b.holder())).Commit(ctx)
	switch {
	case err != nil:
		return false, err
	case res.Results[0].Count == 0:
		return true, nil
	case res.Results[1].Count == 0:
		return true, ErrHolderLost
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	events := b.place.client.WatchPrefix(watching, b.place.root, etcd.WithRevision(res.Revision+1), etcd.WithOnly(etcd.EventDelete))
	for resp := range events {
		if resp.Err() != nil {
			return false, resp.Err()
		}
		lost := false
		for _, ev := range resp.Events { // those of one revision come together
			if ev.Kv.Key == b.shut() {
				return true, nil
			}
			lost = true
		}
		if lost {
			return true, ErrHolderLost
		}
	}
	return false, context.Cause(ctx)
}

// Context returns a context that lives while this Barrier is held. It ends with the cause
// [ErrLost] when the lease can no longer be relied upon, or with [Barrier.Close], and with
// [context.Canceled] after [Barrier.Release]. If it is not held, the context has already ended with
// [ErrNotHeld].
func (b *Barrier) Context() context.Context { return b.place.context() }

// Close gives up a hold without opening the barrier, as if this process were lost: those who wait
// are told [ErrHolderLost]. It takes one round trip if the barrier is held. Later calls, and a Hold or
// Release under way, fail with [etcd.ErrClosed]. It is idempotent. Close the barrier before its client.
func (b *Barrier) Close() error { return b.place.close() }
