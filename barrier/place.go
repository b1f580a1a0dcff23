package barrier

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/blueprint-go/etcd"
)

// place is what both kinds of barrier have: keys under a name, and at most one stay at them, which
// hangs on a session.
type place struct {
	client  *etcd.Client
	name    string
	root    string
	options options

	// ctx ends with close, and what is under way with it.
	ctx  context.Context
	stop context.CancelCauseFunc

	mu    sync.Mutex // guards what follows; never held over a request
	phase phase
	idle  chan struct{} // closed when the phase is over; nil if none is under way
	stay  *stay
}

// phase is what is under way at a place: one call at a time.
type phase int

const (
	none    phase = iota
	coming        // Hold, Enter
	going         // Release, Leave
	closing       // Close
)

// stay is a hold of a barrier, or an entry.
type stay struct {
	session *etcd.Session
	own     bool   // the session ends with it
	id      string // what no other stay has
	key     string
	created int64
	round   int64 // of an entry: the create revision of the key that opened the barrier
	doubt   bool  // of a hold: a request that releases it may have been applied
	ctx     context.Context
	cancel  context.CancelCauseFunc
	unhook  func() bool
}

// maxName bounds the name of a barrier, so that its keys have room for all that follows. The doc
// of New names it.
const maxName = 4 << 10

func newPlace(client *etcd.Client, name, kind string, opts []Option) (*place, error) {
	switch {
	case client.Raw() == nil:
		return nil, fmt.Errorf("%w: nil client, or a zero one", etcd.ErrInvalidArgument)
	case name == "":
		return nil, etcd.ErrEmptyKey
	case strings.ContainsAny(name, "\x00\x01"):
		return nil, fmt.Errorf("%w: name of a barrier with a byte 0 or 1", etcd.ErrInvalidArgument)
	case len(name) > maxName:
		return nil, fmt.Errorf("%w: name of a barrier of %d bytes, at most %d", etcd.ErrTooLarge, len(name), maxName)
	}
	o, err := optionsOf(opts)
	if err == nil && o.session != nil && o.session.Client() != client {
		err = fmt.Errorf("%w: session of another client", etcd.ErrInvalidArgument)
	}
	if err != nil {
		return nil, err
	}
	p := &place{client: client, name: name, root: name + "\x01" + kind + "/", options: o}
	p.ctx, p.stop = context.WithCancelCause(context.Background())
	return p, nil
}

func (p *place) fail(op string, err error) error { return &etcd.Error{Op: op, Key: p.name, Err: err} }

// as returns what has failed, some of which may be nil, as the error of a call on a barrier: an
// error of a request says what was asked of the barrier, and keeps everything else. It returns nil
// if nothing has failed.
func (p *place) as(op string, errs ...error) error {
	if p.ctx.Err() != nil && op != opClose && errors.Is(errors.Join(errs...), context.Canceled) {
		return p.fail(op, errors.Join(append([]error{errClosed}, errs...)...))
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		if failed, ok := errs[0].(*etcd.Error); ok { //nolint:errorlint // one that is joined to others stays
			named := *failed
			named.Op, named.Key = op, p.name
			return &named
		}
		return p.fail(op, errs[0])
	}
	return p.fail(op, errors.Join(errs...))
}

const opClose = "close barrier"

// begin begins a phase when no other is under way, unless refuse has an error for the place as it
// is, before or after that. The context that it returns ends with the place too; the caller calls
// end when the phase is over.
func (p *place) begin(ctx context.Context, next phase, refuse func(*stay, phase) error) (joined context.Context, end func(), err error) {
	for {
		if err := p.check(ctx); err != nil {
			return nil, nil, err
		}
		idle, err := p.enter(next, refuse)
		if err != nil {
			return nil, nil, err
		}
		if idle == nil {
			break
		}
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
	joined, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(p.ctx, func() { cancel(errClosed) })
	return joined, func() {
		unhook()
		cancel(nil)
		p.leave()
	}, nil
}

// enter begins a phase, or returns what is closed when the one under way is over.
func (p *place) enter(next phase, refuse func(*stay, phase) error) (idle <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if next != closing && p.ctx.Err() != nil {
		return nil, errClosed
	}
	if err := refuse(p.stay, p.phase); err != nil {
		return nil, err
	}
	if p.idle != nil {
		return p.idle, nil
	}
	p.phase, p.idle = next, make(chan struct{})
	return nil, nil
}

// leave ends the phase.
func (p *place) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.idle)
	p.phase, p.idle = none, nil
}

func (p *place) check(ctx context.Context) error {
	if ctx == nil {
		return etcd.ErrNilContext
	}
	if p.ctx.Err() != nil {
		return errClosed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (p *place) current() *stay {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stay
}

func (p *place) set(s *stay) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stay = s
}

// lives reports whether a stay is there that can be relied upon.
func (s *stay) lives() bool { return s != nil && s.lost() == nil }

// newStay returns a stay whose key is not put yet, in place of one that was lost.
func (p *place) newStay(ctx context.Context) (*stay, error) {
	if old := p.current(); old != nil {
		p.set(nil)
		_ = old.end(ctx, old.lost()) // its lease has ended, or is about to
	}
	s := &stay{session: p.options.session}
	if s.session == nil {
		var err error
		if s.session, err = p.client.NewSession(ctx, etcd.WithSessionTTL(p.options.ttl)); err != nil {
			return nil, err
		}
		s.own = true
	}
	if err := s.lost(); err != nil {
		return nil, err
	}
	var chance [4]byte
	_, _ = rand.Read(chance[:]) // never fails, says its documentation
	s.id = s.session.Lease().String() + "." + hex.EncodeToString(chance[:])
	return s, nil
}

// lost returns why the stay can't be relied upon, or nil.
func (s *stay) lost() error {
	if ctx := s.session.Context(); ctx.Err() != nil {
		return &lostError{context.Cause(ctx)}
	}
	return nil
}

// settle gives a stay its context: its key was put at a revision.
func (s *stay) settle(created int64) {
	if s.cancel != nil {
		s.unhook()
	}
	s.created = created
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.unhook = context.AfterFunc(s.session.Context(), func() { s.cancel(&lostError{context.Cause(s.session.Context())}) })
}

// end ends the context of a stay, and the session if it is its own; that deletes the key, if it is
// still there.
func (s *stay) end(ctx context.Context, cause error) error {
	return s.endBy(context.WithoutCancel(ctx), cause)
}

func (s *stay) endBy(ctx context.Context, cause error) error {
	if s.cancel != nil {
		s.unhook()
		s.cancel(cause)
	}
	if !s.own {
		return nil
	}
	return s.session.Close(ctx)
}

// abandon is end that doesn't wait for the server: a lease of its own is revoked in the background,
// or ends by itself.
func (s *stay) abandon(cause error) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.endBy(gone, cause)
}

// context returns that of a stay; one that has ended without one.
func (p *place) context() context.Context {
	if s := p.current(); s != nil {
		return s.ctx
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(ErrNotHeld)
	return ctx
}

// close ends what is under way, and the barrier here: what hangs on a session of its own goes with
// that, and else its key is deleted.
func (p *place) close() error {
	return p.as(opClose, p.vacate())
}

// vacate is close without the name of the call.
func (p *place) vacate() error {
	p.stop(errClosed)
	for {
		idle, _ := p.enter(closing, func(*stay, phase) error { return nil })
		if idle == nil {
			break
		}
		<-idle
	}
	defer p.leave()
	s := p.current()
	if s == nil {
		return nil
	}
	p.set(nil)
	ctx := context.Background()
	err := s.end(ctx, &lostError{errClosed})
	if s.own || s.lost() != nil {
		return err
	}
	return p.drop(ctx, s)
}

// drop deletes the key of a stay whose session lives on; no other stay has that key. It is
// bounded by RequestTimeout, since ctx may be what has ended.
func (p *place) drop(ctx context.Context, s *stay) error {
	_, err := p.client.Txn().Then(etcd.OpDelete(s.key)).Commit(context.WithoutCancel(ctx))
	return err
}

// persist commits a transaction that may be sent twice, until it is answered, ctx ends or the
// failure is not one that passes. It reports whether an earlier request may have been applied.
func (p *place) persist(ctx context.Context, txn *etcd.Txn) (res *etcd.TxnResult, inDoubt bool, err error) {
	for n := 0; ; n++ {
		res, err = txn.Commit(ctx)
		if !etcd.MaybeApplied(err) {
			return res, inDoubt, err
		}
		inDoubt = true
		if !pause(ctx, backoff(n)) {
			return nil, true, err
		}
	}
}
