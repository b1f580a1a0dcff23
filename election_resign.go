package etcd

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/txntree"
)

// Resign gives up the leadership, in one round trip, and lets the next candidate lead; ctx may be
// one of its own [Election.Guard]. [WithSuccessor] says which one, and takes a second round trip.
//
// It fails with [ErrNotHeld] if this Election doesn't lead, and with [ErrLockLost] if the
// leadership was lost before; a lost leadership must be resigned too before this Election can
// campaign again. With a successor that is no candidate it fails with [ErrNoCandidate], and
// nothing has changed; if that one leaves at the very moment, the error is the same, and the
// resignation takes place without it.
//
// After any other error the leadership has ended here, and its key may not be gone: Resign can be
// called again, until it returns nil, which says that the key is certainly gone. Meanwhile the
// key is removed in the background, and goes with its lease at the latest. The successor may then
// not be named: whoever is next leads.
func (e *Election) Resign(ctx context.Context, opts ...ResignOption) error {
	const op = "resign"
	var o resignOptions
	err := optionsOf(opts, &o, ResignOption.applyResign)
	if err == nil {
		err = o.check()
	}
	if ctx == nil {
		err = ErrNilContext
	}
	if err != nil {
		return fail(op, e.name, err)
	}
	l, again, err := e.toResign()
	if err != nil {
		return fail(op, e.name, err)
	}
	var heir *candidate
	var unfound error
	if o.named && !again {
		if heir, unfound = l.heir(ctx, op, o.successor); errors.Is(unfound, ErrNoCandidate) {
			return unfound
		}
	}
	ctx, cancel := releasing(ctx, &l.claim)
	defer cancel()
	if lost := e.stepDown(l); lost != nil {
		return fail(op, e.name, lost)
	}
	gone := false
	defer func() { // also when a hook panics
		if !gone {
			l.seat.giveUp()
		}
	}()
	if unfound != nil { // who resigns must not lead on because the successor can't be looked up
		return unfound
	}
	left, err := l.remove(ctx, op, heir)
	if err != nil {
		return err
	}
	gone = true
	e.forget(l)
	switch {
	case again || left.there && (heir == nil || left.handed):
		e.log(slog.LevelInfo, "etcd: resigned", slog.Int64("token", l.token))
		return nil
	case left.there:
		return answered(op, e.name, ErrNoCandidate)
	}
	return answered(op, e.name, lostKey)
}

// toResign returns the leadership that there is to resign, and whether that was tried before.
func (e *Election) toResign() (*leadership, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch l := e.led; {
	case l == nil:
		return nil, false, errNotLeading
	case l.resigning:
		return l, true, nil
	default:
		lost := l.lost()
		if lost != nil {
			e.drop(l)
		}
		return l, false, lost
	}
}

// stepDown ends the leadership here, before anybody else can have it. It returns why if it was
// lost already.
func (e *Election) stepDown(l *leadership) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l.resigning || e.led != l {
		return nil // by another call
	}
	if lost := l.lost(); lost != nil {
		e.drop(l)
		return lost
	}
	l.resigning = true
	l.end()
	return nil
}

// drop forgets a leadership that was lost. The mu of e must be held.
func (e *Election) drop(l *leadership) {
	e.led = nil
	l.end()
	l.seat.giveUp() // the timer of the session may be late
}

// forget forgets a leadership whose key is gone.
func (e *Election) forget(l *leadership) {
	e.mu.Lock()
	forgotten := e.led != l
	if !forgotten {
		e.led = nil
	}
	e.mu.Unlock()
	switch {
	case forgotten: // by another call
	case l.seat.late:
		l.seat.giveUp()
	default:
		l.seat.release()
	}
}

// heir returns the candidate of a name that is next in the queue.
func (l *leadership) heir(ctx context.Context, op, name string) (*candidate, error) {
	e := l.seat.election
	resp, err := e.client.sendTxn(Unguarded(ctx), request{op: op, key: e.name}, &pb.TxnRequest{Success: []*pb.RequestOp{e.ranges.read()}})
	if err != nil {
		return nil, err
	}
	s, err := e.ranges.standingOf(resp.Responses, resp.Header.GetRevision())
	if err != nil {
		return nil, answered(op, e.name, err)
	}
	i := slices.IndexFunc(s.candidates, func(c candidate) bool {
		return c.id == name && string(c.stored) != string(l.seat.stored)
	})
	if i < 0 {
		return nil, answered(op, e.name, ErrNoCandidate)
	}
	return &s.candidates[i], nil
}

// farewell is what became of the key of a leader.
type farewell struct {
	there  bool // until now
	handed bool // to the successor
}

// remove deletes the leader's key, and names a successor if heir is one. It asks again if an
// answer is lost: no other leader's key has that create revision.
func (l *leadership) remove(ctx context.Context, op string, heir *candidate) (left farewell, err error) {
	e := l.seat.election
	r := request{op: op, key: e.name, write: true}
	sent := false
	err = e.client.persist(ctx, r, e.client.rpc.Closing(), func(ctx context.Context) error {
		resp, err := e.client.sendTxn(ctx, r, l.removal(heir))
		if heir != nil && errors.Is(err, ErrLeaseNotFound) {
			heir = nil // it has died
			resp, err = e.client.sendTxn(ctx, r, l.removal(nil))
		}
		if err != nil {
			sent = sent || MaybeApplied(err)
			return err
		}
		// What an earlier request has done is what it was asked for.
		left.handed = resp.Succeeded && heir != nil || sent
		left.there = resp.Succeeded || sent
		if !resp.Succeeded && heir != nil && len(resp.Responses) > 0 && resp.Responses[0].GetResponseTxn().GetSucceeded() {
			left = farewell{there: true}
		}
		return nil
	})
	return left, err
}

// removal returns the transaction that ends the leadership. If the successor is no candidate any
// more, it does so without one.
func (l *leadership) removal(heir *candidate) *pb.TxnRequest {
	own := txntree.Delete(&pb.DeleteRangeRequest{Key: l.seat.stored})
	alone := &pb.TxnRequest{
		Compare: []*pb.Compare{l.stands()},
		Success: []*pb.RequestOp{txntree.Delete(&pb.DeleteRangeRequest{Key: l.stored}), own},
		Failure: []*pb.RequestOp{own}, // somebody deleted the leader's key
	}
	if l.twin != nil {
		alone.Success = append(alone.Success, txntree.Delete(&pb.DeleteRangeRequest{Key: l.twin.stored}))
		// The next campaign on this lease will have the same key.
		alone.Failure = append(alone.Failure, txntree.Txn(deletion(l.twin.stored, l.twin.token)))
	}
	if heir == nil {
		return alone
	}
	named := &pb.PutRequest{
		Key:   append(slices.Clip(l.seat.election.ranges.successors.Start), heir.successor...),
		Lease: int64(heir.lease),
	}
	return &pb.TxnRequest{
		Compare: []*pb.Compare{l.stands(), txntree.CreatedAt(heir.stored, heir.created)},
		Success: append(slices.Clone(alone.Success), txntree.Put(named)),
		Failure: []*pb.RequestOp{txntree.Txn(alone)},
	}
}

// Close resigns if this Election leads, in one round trip of at most [Config.RequestTimeout], and
// ends a campaign with [ErrClosed]. It is idempotent. Close an election before its client.
func (e *Election) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	e.end()
	led := e.led
	e.mu.Unlock()
	if led == nil {
		return nil
	}
	err := e.Resign(context.Background())
	for _, over := range []error{ErrNotHeld, ErrLockLost, ErrClosed} { // it needs nothing, or the lease ends by itself
		if errors.Is(err, over) {
			return nil
		}
	}
	return ofCall("close election", e.name, err)
}
