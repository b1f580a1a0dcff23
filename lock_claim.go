package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// lockCleanup bounds the extra time that a call takes to withdraw its claim after its
// context has ended: half of what Lock promises.
const lockCleanup = 50 * time.Millisecond

// claim is a place in the queue for a lock, or the lock itself.
type claim struct {
	heldKey
	session *session
	// repeated says that the request for the claim was sent again. The earlier one may
	// still arrive and make a claim that nobody releases. So the lease must go with this
	// claim.
	repeated bool
	// existed says that the key was there before its request came.
	existed bool
	// Set by begin, when the claim is the lock itself.
	ctx    context.Context
	cancel context.CancelCauseFunc
	unhook func() bool
}

// begin makes the context of a claim that has become a held lock, and has its key watched.
func (c *claim) begin(held *heldKeys) {
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	if err := held.add(&c.heldKey); err != nil {
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
	c.drop()
	c.unhook()
	c.cancel(context.Canceled)
}

// fail ends the context of a claim that can't be relied upon any more; the first reason
// counts.
func (c *claim) fail(reason error) {
	c.drop()
	c.cancel(errs.WithKind(ErrLockLost, reason))
}

// lost returns ErrLockLost with its reason if a held lock was lost, otherwise nil.
func (c *claim) lost() error {
	switch {
	case c.ctx.Err() != nil:
		return context.Cause(c.ctx)
	case !c.session.alive():
		return lockLost(c.session)
	}
	return nil
}

// tryAcquire takes the lock if nobody holds it or waits for it.
func (l *Lock) tryAcquire(ctx context.Context, op string) (bool, error) {
	c, free, err := l.makeClaim(ctx, op, false)
	if err != nil || !free {
		return false, err
	}
	err = l.noteHeld(c, op)
	return err == nil, err
}

// acquire queues for the lock and waits for its turn while waiting lives.
func (l *Lock) acquire(ctx, waiting context.Context, op string) error {
	c, free, err := l.makeClaim(ctx, op, true)
	if err != nil {
		return err
	}
	if !free {
		if err := l.await(waiting, op, c); err != nil {
			l.withdraw(c)
			return err
		}
	}
	return l.noteHeld(c, op)
}

// makeClaim makes a claim if the lock is free, or else puts one into the queue if queue
// says so; it reports whether the lock was free. It replaces a lease that the server no
// longer knows, for example after this machine was suspended.
func (l *Lock) makeClaim(ctx context.Context, op string, queue bool) (c *claim, free bool, err error) {
	for first := true; ; first = false {
		s, err := l.liveSession(ctx, op)
		if err != nil {
			return nil, false, err
		}
		c, free, err := l.sendClaim(ctx, op, s, queue)
		if err == nil {
			if c.repeated && !free && !queue {
				l.giveUp(s, true) // the earlier request could still take the lock
			}
			return c, free, nil
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
			return nil, false, fail(op, l.name, l.closedError())
		case !unknown || !first || l.place != nil:
			return nil, false, err
		}
	}
}

// sendClaim asks for a claim. If its answer is lost, sendClaim looks for the key of the
// claim, and sends the request again, also elsewhere, only if the key isn't there: the
// request puts the key only if it is missing. The key belongs to one lease, which has one
// claim at a time.
func (l *Lock) sendClaim(ctx context.Context, op string, s *session, queue bool) (c *claim, free bool, err error) {
	c = &claim{session: s}
	c.key, c.lease, c.ttl, c.lose = l.prefix+s.id.String(), s.id, s.ttl, c.fail
	if c.stored, err = l.client.stored(c.key); err != nil {
		return nil, false, fail(op, l.name, err)
	}
	all, err := l.client.prefixRange(l.prefix)
	if err != nil {
		return nil, false, fail(op, l.name, err)
	}
	there := false
	ctx = Unguarded(ctx) // no other lock must keep a claim from being found and withdrawn
	err = l.client.persist(ctx, request{op: op, key: l.name}, l.closing, func(ctx context.Context) error {
		if c.repeated && l.place == nil {
			if there, err = l.lookFor(ctx, op, c); there || err != nil {
				free = !queue // otherwise await finds out
				return err
			}
		}
		for {
			resp, err := l.client.sendTxn(ctx, request{op: op, key: l.name, write: true}, claimTxn(c.stored, all, s.id, queue))
			if err != nil {
				c.repeated = c.repeated || MaybeApplied(err)
				return err
			}
			if free, there = c.answered(resp); l.place == nil || !c.existed {
				return nil
			}
			// Of an earlier request, in a place of the queue that nobody knows, and its deletion
			// may be under way.
			if _, err := l.remove(ctx, op, c.key, c.token); err != nil {
				return err
			}
			c.repeated = true
		}
	})
	if err == nil && queue && !there {
		err = answered(op, l.name, fmt.Errorf("%w: answer lacks parts", ErrServer))
		c.repeated = true
	}
	if err != nil && c.repeated {
		err = maybeApplied(err) // one of the requests
	}
	return c, free, err
}

// lookFor looks for the key of a claim that may have been made.
func (l *Lock) lookFor(ctx context.Context, op string, c *claim) (bool, error) {
	resp, err := do(ctx, l.client.conn, request{op: op, key: l.name}, l.client.rpc.Get, &pb.RangeRequest{Key: c.stored, KeysOnly: true})
	if err != nil || len(resp.Kvs) == 0 {
		return false, err
	}
	c.token = resp.Kvs[0].CreateRevision
	return true, nil
}

// claimTxn puts own, attached to a lease, if all is empty; for a queue also if own isn't
// in it. Otherwise it reads own.
func claimTxn(own []byte, all keys.Range, lease LeaseID, queue bool) *pb.TxnRequest {
	none := func(key, end []byte) []*pb.Compare {
		return []*pb.Compare{{
			Key: key, RangeEnd: end, Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 0},
		}}
	}
	put := []*pb.RequestOp{txntree.Put(&pb.PutRequest{Key: own, Lease: int64(lease)})}
	get := []*pb.RequestOp{txntree.Range(&pb.RangeRequest{Key: own, KeysOnly: true})}
	inQueue := get
	if queue {
		inQueue = []*pb.RequestOp{txntree.Txn(&pb.TxnRequest{Compare: none(own, nil), Success: put, Failure: get})}
	}
	return &pb.TxnRequest{Compare: none(all.Start, all.End), Success: put, Failure: inQueue}
}

// answered evaluates the answer to claimTxn. It reports whether the claim is the lock
// itself, and whether there is a claim at all.
func (c *claim) answered(resp *pb.TxnResponse) (free, there bool) {
	c.token, c.existed = resp.Header.GetRevision(), false
	if resp.Succeeded {
		return true, true
	}
	if len(resp.Responses) == 0 {
		return false, false
	}
	own, alone := resp.Responses[0].GetResponseRange(), true // a free lock, claimed without a queue
	if txn := resp.Responses[0].GetResponseTxn(); txn != nil {
		if txn.Succeeded {
			return false, true
		}
		if alone = false; len(txn.Responses) > 0 {
			own = txn.Responses[0].GetResponseRange()
		}
	}
	if len(own.GetKvs()) == 0 {
		return false, false
	}
	// A request was applied that this process believes it sent once or never: a proxy
	// that repeats requests can cause that.
	c.token, c.repeated, c.existed = own.Kvs[0].CreateRevision, true, true
	return alone, true
}

// withdraw takes back the claim of a caller that no longer waits. If that can't be
// confirmed soon, it gives up the lease, and the claim with it.
func (l *Lock) withdraw(c *claim) {
	if c.repeated {
		l.giveUp(c.session, true)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockCleanup)
	defer cancel()
	if _, err := l.client.commit(ctx, request{op: "withdraw", key: l.name}, removal(l.client, c.key, c.token)); err != nil {
		l.giveUp(c.session, false)
	}
}

// giveUp has a claim end that its holder can't end for sure: with its lease, or by its key if
// others have that lease too. late says that a request for the claim may still arrive.
func (l *Lock) giveUp(s *session, late bool) {
	if l.place == nil {
		s.abandon()
		return
	}
	l.place.sweep(late)
}

// liveSession returns a session whose lease can be relied upon.
func (l *Lock) liveSession(ctx context.Context, op string) (*session, error) {
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
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		s.abandon()
		return nil, fail(op, l.name, errLockClosed)
	}
	l.session = s
	return s, nil
}

// noteHeld records that the lock is held, unless it was closed or its lease lost
// meanwhile.
func (l *Lock) noteHeld(c *claim, op string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		l.giveUp(c.session, c.repeated)
		return fail(op, l.name, errLockClosed)
	case !c.session.alive():
		l.giveUp(c.session, c.repeated)
		return fail(op, l.name, lockLost(c.session))
	}
	c.begin(l.client.held)
	l.claim = c
	return nil
}

// lockLost returns ErrLockLost with the reason.
func lockLost(s *session) error { return errs.WithKind(ErrLockLost, s.ended()) }
