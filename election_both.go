package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// Who leads WithBothKeys is first in two queues: that of this package's candidates, and the second
// one, of the mutexes and elections of clientv3's package concurrency (lock_concurrency.go). A
// candidate enters the second queue only when it is its turn in the first, and leaves it again when
// it sees that it isn't any more: one of a higher priority has come, or one without the option has
// taken the lead.
//
// So nobody waits in a circle. In the second queue everybody waits for an older key. The oldest is
// of another program, which holds what it has a key for, or of a candidate that was woken when it
// became the oldest, and takes the lead or leaves. Who waits in the first queue has no key in the
// second.
//
// Each request of a candidate that waits, whether it enters, takes the lead or leaves, is bound to its
// key in the first queue being untouched, and the one that takes the lead touches that. So a request
// that is applied late undoes nothing: who leads keeps its key in the second queue, and who has left
// doesn't lead.

// secondPlace is the place of a candidate in the second queue.
type secondPlace struct {
	heldKey       // its token is 0 while the candidate has no place there
	leaving int64 // the create revision of a key whose deletion may be under way; 0 for none
}

// secondQueue is how the second queue stands for a candidate.
type secondQueue struct {
	own *mvccpb.KeyValue // the candidate's key; nil if there is none
	// before are the oldest and the youngest claim before it, if it has a place; they may be one.
	before []*mvccpb.KeyValue
}

// layOut says where the second queue is, if there is to be one.
func (e *Election) layOut(o lockOptions) (err error) {
	if !o.bothKeys {
		return nil
	}
	e.beside = &likeConcurrency{client: e.client}
	e.beside.theirs, err = e.client.prefixRange(e.name + "/")
	return err
}

// nameBeside gives the candidate its key in the second queue, for a lease.
func (c *candidacy) nameBeside(lease LeaseID) (err error) {
	if c.election.beside == nil {
		return nil
	}
	c.beside = &secondPlace{heldKey: heldKey{key: c.election.name + "/" + bareLease(lease), lease: lease}}
	c.beside.stored, err = c.election.client.stored(c.beside.key)
	return err
}

// readsBeside returns the operations that read how the second queue stands.
func (c *candidacy) readsBeside() []*pb.RequestOp {
	if c.beside == nil {
		return nil
	}
	out := []*pb.RequestOp{txntree.Range(&pb.RangeRequest{Key: c.beside.stored, KeysOnly: true})}
	if c.beside.token > 0 {
		out = append(out, c.election.beside.ends(c.beside.token-1)...)
	}
	return out
}

// ends reads the oldest and the youngest of their keys, up to a create revision; 0 for all.
func (r likeConcurrency) ends(upTo int64) []*pb.RequestOp {
	oldest, youngest := r.end(pb.RangeRequest_ASCEND), r.end(pb.RangeRequest_DESCEND)
	oldest.MaxCreateRevision, youngest.MaxCreateRevision = upTo, upTo
	return []*pb.RequestOp{txntree.Range(oldest), txntree.Range(youngest)}
}

// lookedAt evaluates the answer to a look.
func (c *candidacy) lookedAt(resp *pb.TxnResponse) (s standing, err error) {
	second := len(resp.Responses) - len(c.readsBeside())
	if second < 0 {
		return s, errIncomplete
	}
	if s, err = c.election.ranges.standingOf(resp.Responses[:second], resp.Header.GetRevision()); err != nil {
		return s, err
	}
	for i, told := range resp.Responses[second:] {
		switch kvs := told.GetResponseRange().GetKvs(); {
		case len(kvs) == 0:
		case i == 0:
			s.beside.own = kvs[0]
		default:
			s.beside.before = append(s.beside.before, kvs[0])
		}
	}
	return s, nil
}

// proceedBeside goes on with a candidate whose turn it is in the first queue.
func (c *candidacy) proceedBeside(ctx context.Context, s standing) error {
	own, place := s.beside.own, c.beside
	switch {
	case own != nil && own.CreateRevision == place.leaving: // it may go at any moment
		_, err := c.stepBack(ctx, s)
		return err
	case place.token == 0:
		return c.enter(ctx, s)
	case own == nil, own.CreateRevision != place.token:
		return answered(c.op, c.election.name, lostKey)
	}
	return c.takeOrWait(ctx, s)
}

// takeOrWait takes the lead if nobody is before the candidate in the second queue, and otherwise
// waits for the youngest of those.
func (c *candidacy) takeOrWait(ctx context.Context, s standing) error {
	e, before := c.election, s.beside.before
	if len(before) == 0 {
		return c.take(ctx, s)
	}
	if err := e.beside.foreign(before); err != nil {
		return answered(c.op, e.name, err)
	}
	return untilLate(ctx, func(ctx context.Context) error {
		return e.client.gone(ctx, c.request(), before[len(before)-1].Key, s.revision+1)
	})
}

// enter gives the candidate its place in the second queue, and goes on there. If it was there by
// an earlier request, or is no candidate any more, it makes sense to look again.
func (c *candidacy) enter(ctx context.Context, s standing) error {
	e, place := c.election, c.beside
	put, sealed, err := e.client.putRequest(ctx, place.key, c.value, putOptions{lease: place.lease})
	if err != nil {
		return fail(c.op, e.name, err)
	}
	r := c.request()
	r.seals = sealed
	var resp *pb.TxnResponse
	err = e.client.persist(ctx, r, e.life.Done(), func(ctx context.Context) error {
		resp, err = e.client.sendTxn(ctx, r, c.entry(put))
		return err
	})
	if err != nil {
		return err
	}
	var told []*mvccpb.KeyValue
	for _, op := range resp.Responses {
		told = append(told, op.GetResponseRange().GetKvs()...)
	}
	if resp.Succeeded {
		// The revision of s stays: it is how old what s says of named successors is.
		place.token, s.beside.before = resp.Header.GetRevision(), told
		return c.takeOrWait(ctx, s)
	}
	if err := e.beside.foreign(told); err != nil { // somebody else has put it
		return answered(c.op, e.name, err)
	}
	if len(told) > 0 {
		place.token = told[0].CreateRevision
	}
	return nil
}

// entry returns the transaction that puts a key into the second queue, and tells who is before it;
// or the key, if it is there. It is bound to the candidate's key as it was put first: a copy that
// comes late does nothing once the campaign is over, and what it puts before that a look finds.
func (c *candidacy) entry(put *pb.PutRequest) *pb.TxnRequest {
	return &pb.TxnRequest{
		Compare: append(txntree.Absent(keys.Range{Start: put.Key}), txntree.Unchanged(c.stored, c.token)),
		Success: append(c.election.beside.ends(0), txntree.Put(put)),
		Failure: []*pb.RequestOp{txntree.Range(&pb.RangeRequest{Key: put.Key})},
	}
}

// stepBack gives up the place in the second queue, if the candidate has one by what a look has
// found. Until its key is known to be gone, it isn't taken for a place again. stepBack reports
// whether it makes sense to wait then: not if its request has changed nothing, since the candidate
// may have taken the lead by an earlier one.
func (c *candidacy) stepBack(ctx context.Context, s standing) (left bool, err error) {
	place, r := c.beside, c.request()
	if place == nil {
		return true, nil
	}
	place.token = 0
	if s.beside.own == nil {
		return true, nil
	}
	place.leaving = s.beside.own.CreateRevision
	txn := deletion(place.stored, place.leaving)
	txn.Compare = append(txn.Compare, txntree.Unchanged(c.stored, c.token))
	err = c.election.client.persist(ctx, r, c.election.life.Done(), func(ctx context.Context) error {
		resp, err := c.election.client.sendTxn(ctx, r, txn)
		left = err == nil && resp.Succeeded
		return err
	})
	return left, err
}

// foundLead takes note of a lead that a look has found, which an earlier request has taken. That
// was bound to the key in the second queue, whose token may be forgotten since: the key that is there
// now is the same one if it is older than the lead.
func (c *candidacy) foundLead(s standing) error {
	if place, own := c.beside, s.beside.own; place != nil {
		if own == nil || own.CreateRevision > s.token() { // somebody has deleted it
			return answered(c.op, c.election.name, lostKey)
		}
		place.token = own.CreateRevision
	}
	c.led = s.token()
	return nil
}

// deletion returns the transaction that deletes a key that was created at a revision.
func deletion(stored []byte, created int64) *pb.TxnRequest {
	return &pb.TxnRequest{
		Compare: []*pb.Compare{txntree.CreatedAt(stored, created)},
		Success: []*pb.RequestOp{txntree.Delete(&pb.DeleteRangeRequest{Key: stored})},
	}
}

// keyBeside returns the leader's key in the second queue; nil for none.
func (l *leadership) keyBeside() *heldKey {
	place := l.seat.beside
	if place == nil {
		return nil
	}
	return &heldKey{
		key: place.key, stored: place.stored, token: place.token, lease: place.lease,
		ttl: l.ttl, lose: l.fail, rewritten: true,
	}
}
