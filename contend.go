package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// contender is one seat in the queue for a name, which has one claim at a time: it makes
// claims, waits for their turn, holds them and gives them back. What is common to all kinds
// of queues is here, what tells them apart is its rule; a [Lock] is a contender with a name.
//
// It is safe for concurrent use: those who share it take turns.
type contender struct {
	lifespan
	rule   precedence
	name   string // what errors and hooks are told
	prefix string // of the keys of its claims: a lease follows
	// bare says that the lease follows without leading zeros, as in package concurrency.
	bare bool
	// twin is the prefix of a second key for each claim, in which the lease is bare; empty for
	// none.
	twin  string
	owner string // what records of claims say, see WithOwner
	// number is the part of the prefix that tells claims on one session apart; 0 for none.
	number uint64
	ttl    int64
	place  *lockPlace // on a shared session; nil for one that has its own lease

	// turn holds one value; whoever puts it in may compete. It is a channel because waiters
	// must be able to stop waiting.
	turn chan struct{}

	mu      sync.Mutex // guards what follows; never held over a request
	closed  bool
	session *session
	claim   *claim
}

// precedence says which claims of a queue must be gone before one holds.
type precedence interface {
	// request returns the transaction that puts c: if it holds at once, for a queue in any
	// case. It puts c only if the key isn't there.
	request(c *claim, queue bool) *pb.TxnRequest
	// answered evaluates the answer, and takes note of it in c.
	answered(c *claim, resp *pb.TxnResponse) (verdict, error)
	// ahead returns what waits until it makes sense to ask again, nil if c holds. It fails
	// with ErrLockLost if c is no longer there.
	ahead(ctx context.Context, l *contender, op string, c *claim) (wait func(context.Context) error, err error)
}

// verdict is what the answer to a claim means.
type verdict int

const (
	refused   verdict = iota // there is no claim
	queued                   // it is in the queue
	holds                    // it holds
	undecided                // there is none; what was learnt of the queue is for the next request
)

// seat returns a contender without a lease and a rule. Its claims are those of that kind under
// that name.
func (c *Client) seat(name, kind string, closedError error) (*contender, error) {
	if name == "" {
		return nil, ErrEmptyKey
	}
	if strings.Contains(name, "\x00") {
		return nil, fmt.Errorf("%w: lock name with a NUL byte", ErrInvalidArgument)
	}
	l := &contender{
		lifespan: newLifespan(c, closedError),
		name:     name,
		prefix:   name + "\x00" + kind,
		turn:     make(chan struct{}, 1),
	}
	_, err := c.stored(l.prefix + LeaseID(0).String())
	return l, err
}

// sit gives the contender its lease: its place on a session that is not nil, otherwise the
// one that grant makes.
func (l *contender) sit(ctx context.Context, op string, s *Session, grant func(context.Context, int64) (*session, error)) (err error) {
	if s == nil {
		l.session, err = grant(ctx, l.ttl)
		return ofCall(op, l.name, err)
	}
	if l.place, err = s.place(l.client, l.name, l.key(s.lease.id), l.number); err != nil {
		return fail(op, l.name, err)
	}
	l.session, l.turn = s.lease, l.place.turn
	return nil
}

// key returns the key of a claim that is attached to a lease.
func (l *contender) key(id LeaseID) string {
	if l.bare {
		return l.prefix + bareLease(id)
	}
	return l.prefix + id.String()
}

// try is acquire for the claim that holds at once, or else in the time given by wait, which
// is not an error when it ends.
func (l *contender) try(ctx context.Context, op string, wait time.Duration) (bool, error) {
	if err := l.usable(ctx); err != nil {
		return false, fail(op, l.name, err)
	}
	if wait > 0 {
		return l.acquireWithin(ctx, op, wait)
	}
	select {
	case l.turn <- struct{}{}:
	default:
		return false, l.unreleased(op)
	}
	return l.take(func() (bool, error) { return l.tryClaim(ctx, op) })
}

// take calls compete; the caller has the turn. It gives the turn back unless the claim is
// held then. If a hook panics in compete, the fate of the claim is unknown, and its session
// is abandoned with it.
func (l *contender) take(compete func() (bool, error)) (held bool, err error) {
	returned := false
	defer func() {
		if !returned {
			l.mu.Lock()
			s := l.session
			l.mu.Unlock()
			l.giveUp(s, true)
		}
		if !held {
			<-l.turn
		}
	}()
	held, err = compete()
	returned = true
	return held, err
}

// acquireWithin is acquire bounded by WithTryWait, the end of which is not an error.
func (l *contender) acquireWithin(ctx context.Context, op string, wait time.Duration) (bool, error) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := l.acquire(ctx, waiting, op)
	switch {
	case !errors.Is(err, ErrLocked):
		return err == nil, err
	case ctx.Err() == nil:
		return false, nil
	default: // the caller's context ended, not just the wait
		return false, answered(op, l.name, errs.WithDetail(errs.OfContext(ctx), ErrLocked))
	}
}

// acquire makes a claim and returns when it holds. It waits for others while waiting lives,
// which ends with ctx at the latest, and for the server while ctx does: a slow answer doesn't
// mean that others are before it.
func (l *contender) acquire(ctx, waiting context.Context, op string) error {
	if err := l.usable(ctx); err != nil {
		return fail(op, l.name, err)
	}
	if err := l.unreleased(op); err != nil {
		return err
	}
	select {
	case l.turn <- struct{}{}:
	case <-waiting.Done():
		return fail(op, l.name, errs.WithDetail(errs.OfContext(waiting), ErrLocked))
	case <-l.life.Done():
		return fail(op, l.name, l.closedReason())
	case <-l.client.rpc.Closing():
		return fail(op, l.name, l.closedReason())
	}
	_, err := l.take(func() (bool, error) {
		err := l.queue(ctx, waiting, op)
		return err == nil, err
	})
	return err
}

// release gives back the claim that is held. Whatever it returns, it is no longer held
// afterwards.
func (l *contender) release(ctx context.Context, op string) error {
	if ctx == nil {
		return fail(op, l.name, ErrNilContext)
	}
	l.mu.Lock()
	c := l.claim
	l.claim = nil
	l.mu.Unlock()
	if c == nil {
		return fail(op, l.name, ErrNotHeld)
	}
	defer func() { <-l.turn }()
	ctx, cancel := releasing(ctx, c)
	defer cancel()
	lost, released := c.lost(), false
	c.end()
	defer func() { // also when a hook panics
		if !released {
			l.giveUp(c.session, c.repeated)
		}
	}()
	if lost != nil && !c.session.alive() {
		return fail(op, l.name, lost)
	}
	there, err := l.delete(ctx, op, c)
	switch {
	case lost != nil:
		return answered(op, l.name, lost)
	case err != nil:
		return err
	case !there:
		return answered(op, l.name, lostKey)
	}
	released = !c.repeated // otherwise the claim may come back while its lease lives
	return nil
}

// delete deletes the key of a claim and reports whether it was there. If there are
// several endpoints, and one is silent for firstPatience or loses the answer, delete
// revokes the lease instead: a revocation can be repeated elsewhere, and certainly
// deletes the key.
func (l *contender) delete(ctx context.Context, op string, c *claim) (bool, error) {
	if l.place != nil {
		return l.remove(ctx, op, c.key, c.token)
	}
	patience, cancel := context.WithCancel(ctx)
	several := l.client.rpc.HasSeveralEndpoints()
	if several {
		patience, cancel = context.WithTimeout(ctx, firstPatience)
	}
	defer cancel()
	// Also if somebody else overwrote it: otherwise it would stay for good.
	res, err := l.client.commit(patience, request{op: op, key: l.name}, l.removal(c))
	switch {
	case err == nil:
		return res.Succeeded, nil
	case !rpc.TimeIsUp(ctx) && (rpc.TimeIsUp(patience) || several && MaybeApplied(err)):
		return true, ofCall(op, l.name, c.session.close(ctx))
	default:
		return false, err
	}
}

// close gives back the claim that is held, and ends the lease unless others share it. Calls
// that wait end with closedError.
func (l *contender) close() error {
	c, s := l.shut()
	switch {
	case s == nil:
		return nil
	case l.place != nil:
		return l.leavePlace(c)
	case c != nil:
		c.end()
		<-l.turn
	}
	err := s.close(context.Background())
	if errors.Is(err, ErrClosed) {
		return nil // the client was closed first; the lease ends by itself
	}
	return err
}

// shut has every later call fail, and those that wait. It returns what is to be ended, nil if
// that was done before.
func (l *contender) shut() (*claim, *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil
	}
	l.closed = true
	l.end()
	c := l.claim
	l.claim = nil
	return c, l.session
}

// forsake is close that doesn't wait for the server.
func (l *contender) forsake() {
	c, s := l.shut()
	if s == nil {
		return
	}
	if c != nil {
		c.end()
		defer func() { <-l.turn }()
	}
	if l.place != nil {
		defer l.place.leave()
	}
	if l.place == nil || c != nil { // whoever waits there withdraws its claim
		l.giveUp(s, c != nil && c.repeated)
	}
}

// leavePlace is close on a shared session, where c may be held.
func (l *contender) leavePlace(c *claim) error {
	defer l.place.leave()
	if c == nil {
		return nil
	}
	defer func() { <-l.turn }()
	c.end()
	released := false
	defer func() { // also when a hook panics
		if !released {
			l.giveUp(c.session, c.repeated)
		}
	}()
	if !c.session.alive() {
		return nil
	}
	_, err := l.remove(context.Background(), "unlock", c.key, c.token)
	released = err == nil && !c.repeated
	return err
}

// yield closes a contender that nobody uses any more, and returns its session for another
// one; nil if the session is not its own, or still in use.
func (l *contender) yield() *session {
	if l.place != nil {
		return nil
	}
	select {
	case l.turn <- struct{}{}: // for good: the claim may have been kept
	default:
		return nil
	}
	_, s := l.shut()
	return s
}

// current returns the claim that is held, or nil.
func (l *contender) current() *claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.claim
}

// unreleased returns ErrLockLost, with the reason, if the claim was lost and has not been
// given back since.
func (l *contender) unreleased(op string) error {
	if c := l.current(); c != nil {
		if lost := c.lost(); lost != nil {
			return fail(op, l.name, lost)
		}
	}
	return nil
}

// isOf reports whether the claims are of a kind, or one that begins like it.
func (l *contender) isOf(kind string) bool { return strings.HasPrefix(l.prefix, l.name+"\x00"+kind) }
