package etcd

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// lockCleanup bounds the extra time that a call takes to withdraw its claim after its
// context has ended: half of what Lock promises.
const lockCleanup = 50 * time.Millisecond

// claim is a place in a queue, or what is queued for.
type claim struct {
	heldKey
	// twin is the other key of a claim that has two; nil for one key. Its token is set before begin.
	twin    *heldKey
	record  []byte // what the keys hold
	session *session
	// repeated says that the request for the claim was sent again. The earlier one may
	// still arrive and make a claim that nobody releases. So the lease must go with this
	// claim.
	repeated bool
	// existed says that the key was there before its request came.
	existed bool
	mayWait bool // in the queue
	// seen is the room that its request is bound to; for semaphores.
	seen vacancy
	// Set by begin, when the claim holds.
	ctx    context.Context
	cancel context.CancelCauseFunc
	unhook func() bool
}

// begin makes the context of a claim that holds, and has its key watched.
func (c *claim) begin(held *heldKeys) {
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	if err := held.add(c.keys()...); err != nil {
		c.fail(err)
	}
	// Only now, since it may call fail at once.
	c.unhook = context.AfterFunc(c.session.ctx, func() { c.fail(context.Cause(c.session.ctx)) })
}

// look ends the context of a claim whose lease has run out: see promptContext.
func (c *claim) look() {
	if !c.session.alive() {
		c.session.look()
		c.fail(c.session.ended())
	}
}

// end ends the context of a claim that is over.
func (c *claim) end() {
	c.unwatch()
	c.unhook()
	c.cancel(context.Canceled)
}

// fail ends the context of a claim that can't be relied upon any more; the first reason
// counts.
func (c *claim) fail(reason error) {
	c.unwatch()
	known := c.ctx.Err() != nil
	c.cancel(errs.WithKind(ErrLockLost, reason))
	if !known && !errors.Is(reason, ErrClosed) {
		c.log(slog.LevelWarn, "etcd: a claim is lost", slog.Any("reason", reason))
	}
}

// log tells of the claim.
func (c *claim) log(level slog.Level, what string, more ...slog.Attr) {
	name, _, _ := strings.Cut(c.key, "\x00")
	c.session.renewals.conn.cfg.Logger.LogAttrs(context.Background(), level, what,
		append(more, slog.String("name", name), slog.Int64("token", c.token))...)
}

// unwatch ends the watch over the keys.
func (c *claim) unwatch() {
	c.drop()
	if c.twin != nil {
		c.twin.drop()
	}
}

// watched returns copies of the keys for a wait, of which lose is told.
func (c *claim) watched(lose func(reason error)) []*heldKey {
	out := []*heldKey{}
	for _, k := range c.keys() {
		out = append(out, &heldKey{key: k.key, stored: k.stored, token: c.token, lease: k.lease, ttl: k.ttl, lose: lose})
	}
	return out
}

// keys returns the key of the claim, or both.
func (c *claim) keys() []*heldKey {
	if c.twin == nil {
		return []*heldKey{&c.heldKey}
	}
	return []*heldKey{&c.heldKey, c.twin}
}

// lost returns ErrLockLost with its reason if a claim that held was lost, otherwise nil.
func (c *claim) lost() error {
	switch {
	case c.ctx.Err() != nil:
		return context.Cause(c.ctx)
	case !c.session.alive():
		return lockLost(c.session)
	}
	return nil
}

// over implements [fencing].
func (c *claim) over() error {
	if err := c.lost(); err == nil || errors.Is(err, ErrLockLost) {
		return err
	}
	return errReleased
}

// life implements [fencing].
func (c *claim) life() context.Context { return c.ctx }

// context returns what a holder gets of a claim; nil stands for none that is held, as it does
// for condition and fencingToken.
func (c *claim) context() context.Context {
	if c == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(ErrNotHeld)
		return ctx
	}
	return promptContext{c.ctx, c.look}
}

// condition returns the condition that the claim, to that name, stands.
func (c *claim) condition(name string) Condition {
	if c == nil {
		return Version(name).Less(0) // no version is negative
	}
	return CreateRevision(c.key).Equal(c.token)
}

func (c *claim) fencingToken() int64 {
	if c == nil {
		return 0
	}
	return c.token
}

// tryClaim makes a claim if it holds at once.
func (l *contender) tryClaim(ctx context.Context, op string) (bool, error) {
	c, v, err := l.makeClaim(ctx, op, false)
	if err != nil || v != holds {
		return false, err
	}
	err = l.noteHeld(c, op)
	return err == nil, err
}

// queue makes a claim and waits for its turn while waiting lives.
func (l *contender) queue(ctx, waiting context.Context, op string) error {
	c, v, err := l.makeClaim(ctx, op, true)
	if err != nil {
		return err
	}
	if v != holds {
		began := time.Now()
		c.log(slog.LevelDebug, "etcd: waits for a lock")
		if err := l.await(waiting, op, c); err != nil {
			c.log(slog.LevelDebug, "etcd: waits for a lock no more", slog.Any("reason", err))
			l.withdraw(c)
			return err
		}
		c.log(slog.LevelDebug, "etcd: has waited for a lock", slog.Duration("for", time.Since(began)))
	}
	return l.noteHeld(c, op)
}

// makeClaim makes a claim if it holds at once, or else puts one into the queue if queue
// says so. It replaces a lease that the server no longer knows, for example after this
// machine was suspended.
func (l *contender) makeClaim(ctx context.Context, op string, queue bool) (*claim, verdict, error) {
	for first := true; ; first = false {
		s, err := l.liveSession(ctx, op)
		if err != nil {
			return nil, refused, err
		}
		c, v, err := l.sendClaim(ctx, op, s, queue)
		if err == nil {
			if c.repeated && v == refused {
				l.giveUp(s, true) // the earlier request could still make the claim
			}
			return c, v, nil
		}
		unknown := errors.Is(err, ErrLeaseNotFound)
		switch {
		case unknown && l.place != nil:
			s.end(errLeaseGone)
		case unknown:
			s.abandon()
		case MaybeApplied(err): // nobody would ever release the claim
			l.giveUp(s, true)
		}
		switch {
		case l.isClosing():
			return nil, refused, fail(op, l.name, l.closedReason())
		case !unknown || !first || l.place != nil:
			return nil, refused, err
		}
	}
}

// sendClaim asks for a claim. If its answer is lost, sendClaim looks for the key of the
// claim, and sends the request again, also elsewhere, only if the key isn't there: the
// request puts the key only if it is missing. The key belongs to one lease, which has one
// claim at a time.
func (l *contender) sendClaim(ctx context.Context, op string, s *session, queue bool) (c *claim, v verdict, err error) {
	c = &claim{session: s, mayWait: queue}
	c.key, c.lease, c.ttl, c.lose = l.key(s.id), s.id, s.ttl, c.fail
	if c.stored, err = l.client.stored(c.key); err != nil {
		return nil, refused, fail(op, l.name, err)
	}
	if !l.bare {
		c.record = l.client.claimRecord(ctx, c.stored, l.owner)
	}
	if l.twin != "" {
		if err := l.pair(c); err != nil {
			return nil, refused, fail(op, l.name, err)
		}
	}
	ctx = Unguarded(ctx) // no other claim must keep this one from being found and withdrawn
	err = l.client.persist(ctx, request{op: op, key: l.name}, l.life.Done(), func(ctx context.Context) (err error) {
		if c.repeated && l.place == nil {
			if v, err = l.lookFor(ctx, op, c, queue); v != refused || err != nil {
				return err
			}
		}
		v, err = l.ask(ctx, op, c, queue)
		return err
	})
	if err == nil && queue && v == refused {
		err = answered(op, l.name, errIncomplete)
		c.repeated = true
	}
	if err != nil && c.repeated {
		err = maybeApplied(err) // one of the requests
	}
	return c, v, err
}

// ask sends the request for a claim until its rule can say what the answer means.
func (l *contender) ask(ctx context.Context, op string, c *claim, queue bool) (verdict, error) {
	for {
		resp, err := l.client.askTxn(ctx, request{op: op, key: l.name, write: true}, l.rule.request(c, queue))
		if err != nil {
			c.repeated = c.repeated || MaybeApplied(err)
			return refused, err
		}
		c.existed = false
		v, err := l.rule.answered(c, resp)
		switch {
		case err != nil:
			return refused, answered(op, l.name, err)
		case v == undecided:
			continue
		case l.place == nil || !c.existed:
			return v, nil
		}
		// Of an earlier request, in a place of the queue that nobody knows, and its deletion
		// may be under way.
		if _, err := l.remove(ctx, op, c.key, c.token); err != nil {
			return refused, err
		}
		c.repeated = true
	}
}

// askTxn sends the request for a claim. A key that a proxy has put by sending the request twice is
// in the answer (foundOwn), so none is looked for in the history.
func (c *Client) askTxn(ctx context.Context, r request, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := c.rpc.CheckSize(req); err != nil {
		return nil, r.fail(err)
	}
	return do(ctx, c.conn, r, c.rpc.Txn, req)
}

// lookFor looks for the key of a claim that may have been made. Without a queue only one
// that holds is made.
func (l *contender) lookFor(ctx context.Context, op string, c *claim, queue bool) (verdict, error) {
	resp, err := do(ctx, l.client.conn, request{op: op, key: l.name}, l.client.rpc.Get, c.read())
	if err != nil || len(resp.Kvs) == 0 {
		return refused, err
	}
	c.token = resp.Kvs[0].CreateRevision
	if queue {
		return queued, nil // await finds out whether it holds
	}
	return holds, nil
}

// put puts the key of the claim.
func (c *claim) put() *pb.RequestOp {
	return txntree.Put(&pb.PutRequest{Key: c.stored, Value: c.record, Lease: int64(c.lease)})
}

// read reads the key of the claim.
func (c *claim) read() *pb.RangeRequest { return &pb.RangeRequest{Key: c.stored, KeysOnly: true} }

// foundOwn takes note of a key that was there before its request came, if it is there: a request
// was applied that this process believes it sent once or never. A proxy that repeats requests
// can cause that.
func (c *claim) foundOwn(own *pb.RangeResponse) bool {
	kvs := own.GetKvs()
	if len(kvs) == 0 {
		return false
	}
	c.token, c.repeated, c.existed = kvs[0].CreateRevision, true, true
	return true
}

// withdraw takes back the claim of a caller that no longer waits. If that can't be
// confirmed soon, it gives up the lease, and the claim with it.
func (l *contender) withdraw(c *claim) {
	if c.repeated {
		l.giveUp(c.session, true)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockCleanup)
	defer cancel()
	if _, err := l.client.commit(ctx, request{op: "withdraw", key: l.name}, l.removal(c)); err != nil {
		l.giveUp(c.session, false)
	}
}

// giveUp has a claim end that its holder can't end for sure: with its lease, or by its key if
// others have that lease too. late says that a request for the claim may still arrive.
func (l *contender) giveUp(s *session, late bool) {
	if l.place == nil {
		s.abandon()
		return
	}
	l.place.sweep(late)
}

// liveSession returns a session whose lease can be relied upon.
func (l *contender) liveSession(ctx context.Context, op string) (*session, error) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s.alive() {
		return s, nil // if l was closed meanwhile, noteHeld notices
	}
	if l.place != nil {
		return nil, fail(op, l.name, s.ended())
	}
	s, err := l.client.renewals.newSession(ctx, l.ttl)
	if err != nil {
		return nil, ofCall(op, l.name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		s.abandon()
		return nil, fail(op, l.name, l.closedError)
	}
	l.session = s
	return s, nil
}

// noteHeld records that a claim holds, unless the contender was closed or its lease lost
// meanwhile.
func (l *contender) noteHeld(c *claim, op string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		l.giveUp(c.session, c.repeated)
		return fail(op, l.name, l.closedError)
	case !c.session.alive():
		l.giveUp(c.session, c.repeated)
		return fail(op, l.name, lockLost(c.session))
	}
	if c.twin != nil {
		c.twin.token = c.token // the same request has put both
	}
	c.begin(l.client.held)
	l.claim = c
	return nil
}

// lockLost returns ErrLockLost with the reason.
func lockLost(s *session) error { return errs.WithKind(ErrLockLost, s.ended()) }

// remove deletes a key that was created at a revision and reports whether it was there. It asks
// again if an answer is lost: nothing else can have that key with that revision.
func (l *contender) remove(ctx context.Context, op, key string, created int64) (there bool, err error) {
	sent := false
	err = l.client.persist(ctx, request{op: op, key: l.name}, l.client.rpc.Closing(), func(ctx context.Context) error {
		res, err := l.client.commit(ctx, request{op: op, key: l.name}, removal(l.client, key, created))
		there = err == nil && (res.Succeeded || sent)
		sent = sent || MaybeApplied(err)
		return err
	})
	return there, err
}

// pair gives a claim its second key.
func (l *contender) pair(c *claim) (err error) {
	twin := &heldKey{key: l.twin + bareLease(c.lease), lease: c.lease, ttl: c.ttl, lose: c.fail}
	twin.stored, err = l.client.stored(twin.key)
	c.twin = twin
	return err
}

// removal deletes the keys of a claim, whichever of them are still there.
func (l *contender) removal(c *claim) *Txn {
	one := removal(l.client, c.key, c.token)
	if c.twin == nil {
		return one
	}
	return one.Then(OpDelete(c.twin.key)).Else(OpTxn(removal(l.client, c.twin.key, c.token)))
}

// pairedWith binds writes to the second key of a claim, for as long as the claim lasts.
type pairedWith struct {
	*claim
}

// stands implements [fencing].
func (p pairedWith) stands() *pb.Compare {
	return p.twin.stands()
}

// found implements [fencing].
func (p pairedWith) found(got *pb.RangeResponse) { p.twin.found(got) }
