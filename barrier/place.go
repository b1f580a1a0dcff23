package barrier

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
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

	// turn holds one value; whoever puts it in may hold, release, enter or leave.
	turn chan struct{}

	mu     sync.Mutex // guards what follows; never held over a request
	closed bool
	stay   *stay
}

// stay is a hold of a barrier, or an entry.
type stay struct {
	session *etcd.Session
	own     bool   // the session ends with it
	id      string // what no other stay has
	key     string
	created int64
	round   int64 // of an entry: the create revision of the key that opened the barrier
	ctx     context.Context
	cancel  context.CancelCauseFunc
	unhook  func() bool
}

func newPlace(client *etcd.Client, name, kind string, opts []Option) (*place, error) {
	switch {
	case client == nil:
		return nil, fmt.Errorf("%w: nil client", etcd.ErrInvalidArgument)
	case name == "":
		return nil, etcd.ErrEmptyKey
	case strings.ContainsAny(name, "\x00\x01"):
		return nil, fmt.Errorf("%w: name of a barrier with a byte 0 or 1", etcd.ErrInvalidArgument)
	}
	o, err := optionsOf(opts)
	if err != nil {
		return nil, err
	}
	return &place{client: client, name: name, root: name + "\x01" + kind + "/", options: o, turn: make(chan struct{}, 1)}, nil
}

func (p *place) fail(op string, err error) error { return &etcd.Error{Op: op, Key: p.name, Err: err} }

// as returns err as that of a call on a barrier: an error of a request keeps what it says of that.
func (p *place) as(op string, err error) error {
	if failed, ok := err.(*etcd.Error); ok { //nolint:errorlint // one that is joined to others stays
		named := *failed
		named.Op, named.Key = op, p.name
		return &named
	}
	if err == nil {
		return nil
	}
	return p.fail(op, err)
}

// begin waits for the turn; the caller gives it back.
func (p *place) begin(ctx context.Context) error {
	if err := p.check(ctx); err != nil {
		return err
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := p.check(ctx); err != nil {
		<-p.turn
		return err
	}
	return nil
}

func (p *place) check(ctx context.Context) error {
	if ctx == nil {
		return etcd.ErrNilContext
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
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

// newStay returns a stay whose key is not put yet.
func (p *place) newStay(ctx context.Context) (*stay, error) {
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
	if s.cancel != nil {
		s.unhook()
		s.cancel(cause)
	}
	if !s.own {
		return nil
	}
	return s.session.Close(context.WithoutCancel(ctx))
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

// close ends the barrier here: what hangs on a session of its own goes with that, and else its key
// is deleted.
func (p *place) close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	if !first {
		return nil
	}
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	s := p.current()
	if s == nil {
		return nil
	}
	p.set(nil)
	ctx := context.Background()
	if s.own || s.lost() != nil {
		return s.end(ctx, &lostError{errClosed})
	}
	_ = s.end(ctx, &lostError{errClosed}) // sends nothing
	_, err := p.client.Txn().If(etcd.CreateRevision(s.key).Equal(s.created)).Then(etcd.OpDelete(s.key)).Commit(ctx)
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
