package barrier

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/blueprint-go/etcd"
)

// Double is a double barrier: a number of processes begin together, each when all have entered, and
// end together, each when all have left. Make one with [NewDouble] for each that takes part; the
// zero value is not usable. It is safe for concurrent use, and can be entered again after it was
// left, for the next round: whoever comes while a round is not over waits for its end, as does
// who comes when it is full.
type Double struct {
	place *place
	size  int
}

// MaxSize is the most that can take part in a double barrier.
const MaxSize = 10_000

// NewDouble returns the double barrier of that name for n who take part, from 1 to [MaxSize]. It
// sends nothing, and refuses names as [New] does.
func NewDouble(client *etcd.Client, name string, n int, opts ...Option) (*Double, error) {
	p, err := newPlace(client, name, "double", opts)
	if err == nil && (n < 1 || n > MaxSize) {
		err = fmt.Errorf("%w: barrier of size %d", etcd.ErrInvalidArgument, n)
	}
	if err != nil {
		return nil, &etcd.Error{Op: "new double barrier", Key: name, Err: err}
	}
	return &Double{p, n}, nil
}

// Who takes part has a key under in, on its lease, that ends with the size it counts on. The key
// open stands from the moment when all had entered until all have left; nobody enters meanwhile.
// The key turn is put with each entry and each withdrawal: whoever opens the barrier is bound to
// it, so that exactly those have entered whom it has seen, and none has withdrawn since. (Whoever
// dies meanwhile has entered before.)
func (d *Double) in() string { return d.place.root + "in/" }

func (d *Double) open() string { return d.place.root + "open" }

func (d *Double) turn() string { return d.place.root + "turn" }

// Enter enters and waits until all have. If ctx ends before, it withdraws: it returns nil if all
// had entered by then, and otherwise the cause, and nobody counts on this one. It fails with
// [ErrEntered] if this Double is entering or has entered, with [etcd.ErrClosed] if it is closed
// meanwhile, with [ErrSize] if one who came before counts on another number, and with [ErrLost]
// if the lease was lost during the wait, or the session of [WithSession] before. After a loss it
// enters anew.
//
// It takes a round trip for the lease, two to enter, and a watch, by which each sees all others
// come.
func (d *Double) Enter(ctx context.Context) error {
	const op = "enter barrier"
	p := d.place
	ctx, end, err := p.begin(ctx, coming, func(s *stay, now phase) error {
		if now == coming || s.lives() && now == none {
			return ErrEntered
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
	s.key = fmt.Sprintf("%s%s.%d", d.in(), s.id, d.size)
	living, cancel := context.WithCancel(ctx) // the wait ends with the session too
	defer cancel()
	defer context.AfterFunc(s.session.Context(), cancel)()
	err = errFull
	away := false // the server is: the lease isn't waited for as well
	for n := 0; errors.Is(err, errFull); n++ {
		if n > 0 {
			pause(living, backoff(n)) // those who are in open it meanwhile
		}
		if err = d.join(living, s); err == nil {
			err = d.follow(living, d.untilAllAreIn(s))
		}
		if err != nil && s.created != 0 {
			var entered bool
			if entered, away = d.withdraw(ctx, s); entered {
				err = nil
			}
		}
	}
	if lost := s.lost(); lost != nil {
		err = lost
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if away {
			s.abandon(err)
			return p.as(op, err)
		}
		return p.as(op, err, s.end(ctx, err))
	}
	p.set(s)
	return nil
}

// join puts the key of s as soon as no round is under way.
func (d *Double) join(ctx context.Context, s *stay) error {
	s.created = 0
	for {
		res, _, err := d.place.persist(ctx, d.place.client.Txn().
			If(etcd.Missing(d.open()), etcd.Missing(s.key)).
			Then(etcd.OpPut(s.key, nil, etcd.WithLease(s.session.Lease())), etcd.OpPut(d.turn(), nil)).
			Else(etcd.OpListPrefix(s.key)))
		switch {
		case err != nil:
			if etcd.MaybeApplied(err) {
				s.settle(-1) // to be withdrawn
			}
			return err
		case res.Succeeded:
			s.settle(res.Revision)
			return nil
		case len(res.Results[0].KVs) > 0: // put by an earlier request
			s.settle(res.Results[0].KVs[0].CreateRevision)
			return nil
		}
		if err := d.follow(ctx, d.untilOver(0)); err != nil {
			return err
		}
	}
}

// errFull says that a round has as many as it needs, without this one.
var errFull = errors.New("barrier is full")

// untilAllAreIn returns what decides whether all have entered, and opens the barrier if so.
func (d *Double) untilAllAreIn(s *stay) judge {
	return func(ctx context.Context, r *round, late bool) (bool, error) {
		if r.members[s.key] != s.created {
			return true, &lostError{errGone}
		}
		if r.open != 0 {
			s.round = r.open
			return true, nil
		}
		before, last, agreed := 0, true, true
		for key, created := range r.members {
			size, err := strconv.Atoi(key[strings.LastIndexByte(key, '.')+1:])
			agrees := err == nil && size == d.size
			agreed = agreed && agrees
			if created < s.created {
				if before++; !agrees {
					return true, ErrSize
				}
			}
			last = last && created <= s.created
		}
		switch {
		case before >= d.size:
			return true, errFull
		case len(r.members) != d.size || !agreed || !last && !late:
			return false, nil
		}
		return d.attempt(ctx, d.place.client.Txn().
			If(etcd.Missing(d.open()), etcd.ModRevision(d.turn()).Equal(r.turn)).
			Then(etcd.OpPut(d.open(), nil)))
	}
}

// withdraw deletes the key of s, unless the barrier is open, and reports whether it is: then s has
// entered. If the server can't be reached, which it reports too, the key ends with its lease.
func (d *Double) withdraw(ctx context.Context, s *stay) (entered, away bool) {
	mine := etcd.CreateRevision(s.key).Equal(s.created)
	if s.created < 0 {
		mine = etcd.Exists(s.key)
	}
	// Bounded by RequestTimeout: ctx may be what has ended.
	res, err := d.place.client.Txn().
		If(etcd.Missing(d.open()), mine).
		Then(etcd.OpDelete(s.key), etcd.OpPut(d.turn(), nil)).
		Else(etcd.OpListPrefix(d.open()), etcd.OpListPrefix(s.key)).
		Commit(context.WithoutCancel(ctx))
	if err != nil || res.Succeeded || res.Results[0].Count == 0 || res.Results[1].Count == 0 {
		return false, etcd.IsRetryable(err)
	}
	s.round = res.Results[0].KVs[0].CreateRevision
	s.created = res.Results[1].KVs[0].CreateRevision
	return true, false
}

// Leave leaves and waits until all have, or were lost. It fails with [ErrNotHeld] if this Double has
// not entered or is leaving, and with [ErrLost] if its place was lost. Whatever else it returns,
// this one has left: if ctx ends, or with [etcd.ErrClosed], the others may not have; if the server
// can't be reached, others see it when the lease ends. It takes two round trips, one more for the
// lease, and a watch.
func (d *Double) Leave(ctx context.Context) error {
	const op = "leave barrier"
	p := d.place
	ctx, end, err := p.begin(ctx, going, func(s *stay, now phase) error {
		if s == nil || now != none {
			return ErrNotHeld
		}
		return nil
	})
	if err != nil {
		return p.fail(op, err)
	}
	defer end()
	s := p.current()
	p.set(nil)
	err = s.lost()
	if err == nil {
		var res *etcd.TxnResult
		var inDoubt bool
		res, inDoubt, err = p.persist(ctx, p.client.Txn().
			If(etcd.CreateRevision(s.key).Equal(s.created)).Then(etcd.OpDelete(s.key)))
		if err == nil && !res.Succeeded && !inDoubt {
			err = &lostError{errGone}
		}
		if etcd.MaybeApplied(err) && !s.own {
			_ = p.drop(ctx, s) // else it ends with the lease
		}
	}
	gone := s.end(ctx, err)
	if err == nil {
		err = d.follow(ctx, d.untilOver(s.round))
	}
	if err == nil && !s.own {
		err = gone
	}
	return p.as(op, err)
}

// untilOver returns what decides whether a round is over, and clears it if nobody is in it any more:
// the round whose open key was created then, or any for 0.
func (d *Double) untilOver(created int64) judge {
	empty := false
	return func(ctx context.Context, r *round, late bool) (bool, error) {
		if r.open == 0 || created != 0 && r.open != created {
			return true, nil
		}
		if len(r.members) > 0 || empty && !late {
			return false, nil
		}
		empty = true
		return d.attempt(ctx, d.place.client.Txn().
			If(etcd.PrefixEmpty(d.in()), etcd.CreateRevision(d.open()).Equal(r.open)).
			Then(etcd.OpDelete(d.open())))
	}
}

// attempt does what others may do as well. Only what can't be cured is the end of a wait:
// otherwise the watch tells whether it was done, or it is tried again.
func (d *Double) attempt(ctx context.Context, txn *etcd.Txn) (over bool, err error) {
	_, err = txn.Commit(ctx)
	if etcd.MaybeApplied(err) || etcd.IsRetryable(err) {
		return false, nil
	}
	return err != nil, err
}

// Context returns a context that lives while this Double has entered and not left. It ends with the
// cause [ErrLost] when the lease can no longer be relied upon, or with [Double.Close], and with
// [context.Canceled] after [Double.Leave]. If this Double has not entered, the context has already
// ended with [ErrNotHeld].
func (d *Double) Context() context.Context { return d.place.context() }

// Close leaves without waiting for the others. It takes one round trip if this Double has entered.
// Later calls fail with [etcd.ErrClosed], as does what is under way: Close waits until an Enter has
// withdrawn. If the server can't be reached, it takes [etcd.Config.RequestTimeout] at most. It is
// idempotent. Close the barrier before its client.
func (d *Double) Close() error { return d.place.close() }
