package etcd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// seats are the claims of one value that may hold several at once, such as a [Semaphore]: each
// is a contender of its own, with a lease of its own or a place on a session.
type seats struct {
	lifespan
	owner any // the value, as contexts of its Guard know it
	name  string
	opts  lockOptions
	ttl   int64

	mu     sync.Mutex // guards what follows; never held over a request
	closed bool
	// competing are those that may get a claim, holding those that have one, in the order in
	// which they got it.
	competing map[*contender]struct{}
	holding   []*contender
}

// newSeats returns the seats for a name, whose claims are of a kind no longer than longest.
func (c *Client) newSeats(name, longest string, o lockOptions, closedError error) (*seats, error) {
	if _, err := c.seat(name, longest, closedError); err != nil {
		return nil, err
	}
	ttl, err := o.check()
	if o.theirKeys || o.bothKeys {
		err = fmt.Errorf("%w: keys of package concurrency are for a Lock", ErrInvalidArgument)
	}
	if err == nil && o.session != nil {
		err = o.session.usableBy(c)
	}
	if err != nil {
		return nil, err
	}
	return &seats{lifespan: newLifespan(c, closedError), name: name, opts: o, ttl: ttl, competing: map[*contender]struct{}{}}, nil
}

// acquire takes a seat whose claim is of a kind, and waits until it holds by the rule.
func (s *seats) acquire(ctx context.Context, op, kind string, rule precedence) error {
	_, err := s.compete(ctx, op, kind, rule, func(l *contender) (bool, error) {
		err := l.acquire(ctx, ctx, op)
		return err == nil, err
	})
	return err
}

// try is acquire for the claim that holds at once, or in the time of WithTryWait.
func (s *seats) try(ctx context.Context, op, kind string, rule precedence) (bool, error) {
	return s.compete(ctx, op, kind, rule, func(l *contender) (bool, error) {
		return l.try(ctx, op, s.opts.wait)
	})
}

// compete has a new contender compete by f.
func (s *seats) compete(ctx context.Context, op, kind string, rule precedence, f func(*contender) (bool, error)) (held bool, err error) {
	l, err := s.enter(ctx, op, kind, rule)
	if err != nil {
		return false, err
	}
	defer func() { // also when a hook panics
		s.mu.Lock()
		delete(s.competing, l)
		if held = held && !s.closed; held {
			s.holding = append(s.holding, l)
		} else if s.closed && err == nil {
			err = fail(op, s.name, l.closedReason())
		}
		s.mu.Unlock()
		if !held {
			s.leave(l)
		}
	}()
	return f(l)
}

// enter makes a contender.
func (s *seats) enter(ctx context.Context, op, kind string, rule precedence) (*contender, error) {
	if err := s.usable(ctx); err != nil {
		return nil, fail(op, s.name, err)
	}
	number := uint64(0)
	if s.opts.session != nil { // the lease alone doesn't tell its claims apart
		number = s.opts.session.number()
		kind += numbered(number)
	}
	l, err := s.client.seat(s.name, kind, s.closedError)
	if err != nil {
		return nil, fail(op, s.name, err)
	}
	l.rule, l.ttl, l.owner, l.number = rule, s.ttl, s.opts.owner, number
	if err := l.sit(ctx, op, s.opts.session, s.client.kept.session); err != nil {
		return nil, err
	}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.competing[l] = struct{}{}
	}
	s.mu.Unlock()
	if closed {
		s.leave(l)
		return nil, fail(op, s.name, s.closedError)
	}
	return l, nil
}

// leave ends a contender that has no claim any more. Nothing is attached to a lease that is
// still alive: one whose claim is in doubt was given up.
func (s *seats) leave(l *contender) {
	lease := l.yield()
	if lease == nil {
		_ = l.close() // on a session it has nothing to end
		return
	}
	if lease.alive() {
		s.client.kept.keep(lease, s.ttl)
	}
}

// release gives back a claim of a kind: one that was lost, so that this is told, or else the one
// that was taken last. So the contexts that speak of the oldest one live on.
func (s *seats) release(ctx context.Context, op, kind string) error {
	if ctx == nil {
		return fail(op, s.name, ErrNilContext)
	}
	l := s.pick(kind)
	if l == nil {
		return fail(op, s.name, ErrNotHeld)
	}
	defer s.leave(l)
	ctx, cancel := outside(ctx, func(f *fence) bool { return f.owner == s.owner })
	defer cancel()
	return l.release(ctx, op)
}

// pick takes the claim that release gives back out of those that are held; nil for none.
func (s *seats) pick(kind string) *contender {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := -1
	for i, l := range s.holding {
		if !l.isOf(kind) {
			continue
		}
		at = i
		if c := l.current(); c == nil || c.lost() != nil {
			break
		}
	}
	if at < 0 {
		return nil
	}
	l := s.holding[at]
	s.holding = slices.Delete(s.holding, at, at+1)
	return l
}

// lost returns ErrLockLost, with the reason, if a claim of a kind was lost and has not been
// given back since.
func (s *seats) lost(kind string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.holding {
		if c := l.current(); c != nil && l.isOf(kind) && c.lost() != nil {
			return c.lost()
		}
	}
	return nil
}

// close gives back all claims, and ends those that are waited for.
func (s *seats) close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.end()
	all := slices.AppendSeq(s.holding, maps.Keys(s.competing))
	s.holding = nil
	s.mu.Unlock()
	closed := 0
	defer func() { // after an error rather than have each wait in vain, and when a hook panics
		for _, l := range all[closed:] {
			l.forsake()
		}
	}()
	for i, l := range all {
		closed = i + 1
		if err := l.close(); err != nil {
			return err
		}
	}
	return nil
}

// oldest returns the claim that has held for the longest time and still stands; one that was
// lost if none does, and nil if none is held.
func (s *seats) oldest() *claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lost *claim
	for _, l := range s.holding {
		c := l.current()
		switch {
		case c == nil: // it is being released
		case c.lost() == nil:
			return c
		case lost == nil:
			lost = c
		}
	}
	return lost
}

// guard returns ctx bound to the oldest claim.
func (s *seats) guard(ctx context.Context) context.Context {
	f := &fence{conn: s.client.conn, owner: s.owner}
	if c := s.oldest(); c != nil {
		f.claim = c
	}
	return f.in(ctx)
}
