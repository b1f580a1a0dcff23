package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/rpc"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// candidacy is one campaign: a candidate's key, and what takes it to be the leader's.
//
// Both requests may be repeated, also elsewhere. The key is like no other, so that whoever finds
// it knows it for its own. The put that takes the lead is bound to the candidate's key as it was
// put first, and touches it: so it can be applied once, and a copy that comes late never. What may
// come late is the put of the candidate's key: then the lease must go with it, or the key be swept
// away (election_sweep.go).
type candidacy struct {
	election  *Election
	op        string
	session   *session
	key       string
	stored    []byte // key as the server knows it
	successor []byte // the key by which a leader names this candidate, as stored
	leader    *pb.PutRequest
	sealed    *sealedPut   // nil without encryption
	value     []byte       // what the puts encode
	beside    *secondPlace // nil for an election with one kind of keys

	token int64 // the create revision of key
	late  bool  // a request that puts key may still arrive
	led   int64 // the create revision of the leader's key once it was won; 0 before

	sweeping sync.Once
}

// newCandidacy prepares a campaign on a lease. The first thing it sends is the grant, if that.
func (e *Election) newCandidacy(ctx context.Context, op string, value []byte) (*candidacy, error) {
	put, sealed, err := e.client.putRequest(ctx, e.name+leaderEnd, value, putOptions{})
	if err != nil {
		return nil, fail(op, e.name, err)
	}
	c := &candidacy{election: e, op: op, session: e.shared, leader: put, sealed: sealed, value: value}
	if err := c.name(0); err != nil {
		return nil, fail(op, e.name, err)
	}
	// The largest request of a campaign.
	if err := e.client.rpc.CheckSize(c.takeover(standing{})); err != nil {
		return nil, fail(op, e.name, err)
	}
	switch {
	case e.shared == nil:
		if c.session, err = e.client.kept.session(ctx, e.ttl); err != nil {
			return nil, ofCall(op, e.name, err)
		}
	case !e.shared.alive():
		return nil, fail(op, e.name, e.shared.ended())
	}
	if err := c.name(c.session.id); err != nil {
		return nil, fail(op, e.name, err)
	}
	return c, nil
}

// name gives the candidate its keys for a lease.
func (c *candidacy) name(lease LeaseID) (err error) {
	e := c.election
	var successor string
	c.key, successor = candidateKey(e.name, e.candidate, e.priority, rand.Int64N(math.MaxInt64), lease)
	if c.stored, err = e.client.stored(c.key); err != nil {
		return err
	}
	if err := c.nameBeside(lease); err != nil {
		return err
	}
	c.leader.Lease = int64(lease)
	c.successor, err = e.client.stored(successor)
	return err
}

// request describes a request of the campaign.
func (c *candidacy) request() request { return request{op: c.op, key: c.election.name, write: true} }

// win campaigns until elected, and returns the token.
func (c *candidacy) win(ctx context.Context) (int64, error) {
	// Nothing that guards ctx must keep what this puts from being found and withdrawn.
	ctx = Unguarded(ctx)
	s, err := c.stand(ctx)
	if errors.Is(err, ErrLeaseNotFound) {
		s, err = c.standAgain(ctx)
	}
	if err != nil {
		return 0, err
	}
	// A candidate whose lease is gone has lost its place; closing ends the wait too.
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.session.ctx, cancel)()
	defer context.AfterFunc(c.election.life, cancel)()
	for n := 1; ; n++ {
		if err == nil {
			err = c.proceed(waiting, s)
		}
		if err == nil && c.led > 0 {
			return c.led, nil
		}
		switch {
		case c.election.isClosing():
			return 0, answered(c.op, c.election.name, c.election.closedReason())
		case !c.session.alive():
			return 0, answered(c.op, c.election.name, lockLost(c.session))
		case ctx.Err() != nil:
			return 0, answered(c.op, c.election.name, errs.WithDetail(errs.OfContext(ctx), errAnotherLeads))
		case err != nil && !IsRetryable(err):
			return 0, err
		case err != nil:
			rpc.Pause(waiting, c.election.life.Done(), rpc.Backoff(n))
		}
		s, err = c.look(waiting)
	}
}

// stand puts the candidate's key, and returns how the election stands then. It has found it
// already if an earlier request was applied.
func (c *candidacy) stand(ctx context.Context) (s standing, err error) {
	e := c.election
	record := e.client.claimRecord(ctx, c.stored, e.owner)
	put := txntree.Put(&pb.PutRequest{Key: c.stored, Value: record, Lease: int64(c.session.id)})
	err = e.client.persist(ctx, c.request(), e.life.Done(), func(ctx context.Context) error {
		resp, err := e.client.askTxn(ctx, c.request(), &pb.TxnRequest{
			Compare: txntree.Absent(keys.Range{Start: c.stored}), Success: []*pb.RequestOp{put, e.ranges.read()}, Failure: []*pb.RequestOp{e.ranges.read()},
		})
		if err != nil {
			c.late = c.late || MaybeApplied(err)
			return err
		}
		reads := resp.Responses
		if resp.Succeeded && len(reads) > 0 {
			reads = reads[1:]
		}
		if s, err = e.ranges.standingOf(reads, resp.Header.GetRevision()); err != nil {
			return err
		}
		own, there := s.find(c.stored)
		if !there {
			return errIncomplete
		}
		c.token = own.created
		return nil
	})
	if err != nil && c.late {
		err = maybeApplied(err) // one of the requests
	}
	return s, err
}

// standAgain is stand on a new lease, where the server no longer knows the one that was kept.
func (c *candidacy) standAgain(ctx context.Context) (standing, error) {
	e := c.election
	if e.shared != nil {
		c.session.end(errLeaseGone)
		return standing{}, fail(c.op, e.name, c.session.ended())
	}
	c.session.abandon()
	s, err := e.client.renewals.newSession(ctx, e.ttl)
	if err != nil {
		return standing{}, ofCall(c.op, e.name, err)
	}
	c.session = s
	if err := c.name(s.id); err != nil {
		return standing{}, fail(c.op, e.name, err)
	}
	return c.stand(ctx)
}

// look reads how the election stands.
func (c *candidacy) look(ctx context.Context) (standing, error) {
	e := c.election
	ctx, cancel := context.WithTimeout(ctx, e.client.cfg.RequestTimeout) // win may look again
	defer cancel()
	resp, err := e.client.sendTxn(ctx, request{op: c.op, key: e.name}, &pb.TxnRequest{Success: append([]*pb.RequestOp{e.ranges.read()}, c.readsBeside()...)})
	if err != nil {
		return standing{}, err
	}
	s, err := c.lookedAt(resp)
	return s, answered(c.op, e.name, err)
}

// proceed takes the lead if it is this candidate's turn, and waits for that otherwise. It always
// looks at the whole queue: who was before it may have left, and others may have come.
func (c *candidacy) proceed(ctx context.Context, s standing) error {
	own, there := s.find(c.stored)
	if !there || own.created != c.token {
		return answered(c.op, c.election.name, lostKey)
	}
	switch {
	case own.leads(s): // by an earlier request
		return c.foundLead(s)
	case own.touched != c.token: // it led, and somebody has deleted the leader's key
		return answered(c.op, c.election.name, lostKey)
	case s.foreign != nil:
		return answered(c.op, c.election.name, fmt.Errorf("%w: %q", errForeignInElection, c.election.client.visible(s.foreign)))
	}
	ahead := s.ahead(own)
	switch {
	case ahead == nil && c.beside != nil:
		return c.proceedBeside(ctx, s)
	case ahead == nil:
		return c.take(ctx, s)
	}
	if left, err := c.stepBack(ctx, s); err != nil || !left {
		return err // or look again
	}
	return c.sleep(ctx, ahead, s.revision+1)
}

// take takes the lead. If it doesn't, somebody else was faster, and it makes sense to look again.
func (c *candidacy) take(ctx context.Context, s standing) error {
	e := c.election
	r := c.request()
	r.seals = c.sealed
	return e.client.persist(ctx, r, e.life.Done(), func(ctx context.Context) error {
		resp, err := e.client.sendTxn(ctx, r, c.takeover(s))
		if err != nil {
			return err
		}
		if resp.Succeeded {
			c.led = resp.Header.GetRevision()
			return nil
		}
		now, err := e.ranges.standingAt(resp.Header.GetRevision(), resp.Responses, false)
		if err != nil {
			return answered(c.op, e.name, err)
		}
		c.note(now)
		return nil
	})
}

// note takes note of a lead that an earlier request has taken. The candidate's place in the second
// queue, if it has one, is the one that the request was bound to: the candidate was there and did not
// lead yet, and a request that is bound to an older place can't be applied since.
func (c *candidacy) note(s standing) {
	if own, there := s.find(c.stored); there && own.created == c.token && own.leads(s) {
		c.led = s.token()
	}
}

// takeover returns the transaction that makes the candidate the leader.
func (c *candidacy) takeover(s standing) *pb.TxnRequest {
	r := c.election.ranges
	touch := &pb.PutRequest{Key: c.stored, IgnoreValue: true, IgnoreLease: true}
	txn := &pb.TxnRequest{
		Compare: append(txntree.Absent(keys.Range{Start: r.leader}), txntree.Unchanged(c.stored, c.token)),
		Success: []*pb.RequestOp{txntree.Put(c.leader), txntree.Put(touch)},
		Failure: r.reads(true),
	}
	if c.beside != nil {
		// No older key was there, and none can come: create revisions grow. So it is the oldest
		// while it is there.
		txn.Compare = append(txn.Compare, c.beside.stands())
	}
	if s.named == nil {
		// Those that are there name no candidate.
		txn.Compare = append(txn.Compare, txntree.NoneSince(r.successors, s.revision))
		return txn
	}
	txn.Compare = append(txn.Compare, txntree.CreatedAt(c.successor, s.namedAt))
	txn.Success = append(txn.Success, txntree.Delete(&pb.DeleteRangeRequest{Key: c.successor}))
	return txn
}
