package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/rpc"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// withdraw takes a candidate back that was not elected, and reports whether nothing of it is left
// or can come. Its lease is kept for another one then.
func (c *candidacy) withdraw() bool {
	if c.late || !c.session.alive() {
		return false
	}
	if c.token > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), lockCleanup)
		defer cancel()
		// Not if it was touched: then it may lead.
		removed, err := c.remove(ctx, []*pb.Compare{txntree.Unchanged(c.stored, c.token)})
		if err != nil || !removed {
			return false
		}
	}
	c.release()
	return true
}

// remove deletes the keys of the candidate on conditions, and others with them.
func (c *candidacy) remove(ctx context.Context, on []*pb.Compare, others ...[]byte) (bool, error) {
	txn := &pb.TxnRequest{Compare: on}
	if c.beside != nil {
		others = append(others, c.beside.stored)
	}
	for _, key := range append(others, c.stored, c.successor) {
		txn.Success = append(txn.Success, txntree.Delete(&pb.DeleteRangeRequest{Key: key}))
	}
	resp, err := c.election.client.sendTxn(ctx, c.withdrawal(), txn)
	return err == nil && resp.Succeeded, err
}

func (c *candidacy) withdrawal() request {
	return request{op: "withdraw", key: c.election.name, write: true}
}

// release gives back the lease, to which nothing is attached.
func (c *candidacy) release() {
	if c.election.shared == nil && c.session.ctx.Err() == nil {
		c.election.client.kept.keep(c.session, c.election.ttl)
	}
}

// giveUp has everything end that the campaign may have put and that can't be removed for sure:
// with the lease, or key by key if others have that lease too.
func (c *candidacy) giveUp() {
	if c.election.shared == nil {
		c.session.abandon()
		return
	}
	c.sweeping.Do(func() {
		if c.session.ctx.Err() == nil {
			_ = c.election.client.rpc.Start(c.sweep) // a closed client can't
		}
	})
}

// sweep removes the keys until they are gone and can't come back, or go with the lease.
func (c *candidacy) sweep() {
	for round := 0; ; round++ {
		wait := sweeps[min(round, len(sweeps)-1)]
		if !rpc.Pause(c.session.ctx, c.election.client.rpc.Closing(), wait) {
			return
		}
		if c.clean() && !c.late {
			return
		}
	}
}

// clean removes the candidate's keys, and the leader's if it is its own. It reports whether they
// are certainly gone.
func (c *candidacy) clean() bool {
	e := c.election
	ctx, cancel := context.WithTimeout(inBackground(context.Background()), e.client.cfg.RequestTimeout)
	defer cancel()
	found, err := e.client.sendTxn(ctx, request{op: "withdraw", key: e.name}, &pb.TxnRequest{Success: []*pb.RequestOp{
		txntree.Range(&pb.RangeRequest{Key: e.ranges.leader, KeysOnly: true}),
		txntree.Range(&pb.RangeRequest{Key: c.stored, KeysOnly: true}),
	}})
	if err != nil || len(found.Responses) != 2 {
		return false
	}
	leader, own := found.Responses[0].GetResponseRange().GetKvs(), found.Responses[1].GetResponseRange().GetKvs()
	touched := modRevisionOf(own)
	switch {
	case len(leader) > 0 && (leader[0].CreateRevision == c.led || leader[0].CreateRevision == touched):
		removed, err := c.remove(ctx, []*pb.Compare{txntree.CreatedAt(e.ranges.leader, leader[0].CreateRevision)}, e.ranges.leader)
		return err == nil && removed
	case touched > 0: // unless it takes the lead meanwhile
		removed, err := c.remove(ctx, []*pb.Compare{txntree.Unchanged(c.stored, touched)})
		return err == nil && removed
	}
	// Somebody deleted its own key. It may have been named since, and it may have taken the lead before
	// by a request that was not answered.
	gone := txntree.CreatedAt(c.stored, 0)
	if len(leader) > 0 {
		if _, err := c.remove(ctx, append(c.orphaned(leader[0].CreateRevision), gone), e.ranges.leader); err != nil {
			return false
		}
	}
	_, err = c.remove(ctx, []*pb.Compare{gone})
	return err == nil
}

// orphaned returns the conditions under which a leader's key, created at a revision, is that of a
// campaign on this session that doesn't know of it. Only elections of this client can have put a
// leader's key with this lease: so it is on the lease, of no candidate that is still there, and
// nobody here leads by it. Another campaign whose key was deleted as well, and which is just being
// told that it leads, then learns that the leader's key is gone: its place was lost before.
func (c *candidacy) orphaned(created int64) []*pb.Compare {
	r := c.election.ranges
	if c.election.client.held.has(r.leader, created) {
		return []*pb.Compare{txntree.Never(r.leader)}
	}
	return []*pb.Compare{
		txntree.CreatedAt(r.leader, created),
		txntree.AttachedTo(r.leader, int64(c.session.id)),
		txntree.NoneChangedAt(r.candidates, created),
	}
}
