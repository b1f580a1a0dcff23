package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// leaderOfEither reads the key of who leads, of this package or of package concurrency; nil if
// nobody does.
func (e *Election) leaderOfEither(ctx context.Context, op string) (*mvccpb.KeyValue, int64, error) {
	r := e.ranges
	resp, err := e.client.sendTxn(ctx, request{op: op, key: e.name}, &pb.TxnRequest{
		Compare: txntree.Absent(keys.Range{Start: r.leader}),
		Success: []*pb.RequestOp{
			txntree.Range(e.beside.end(pb.RangeRequest_ASCEND)),
			txntree.Range(&pb.RangeRequest{Key: r.candidates.Start, RangeEnd: r.candidates.End, KeysOnly: true}),
		},
		Failure: []*pb.RequestOp{txntree.Range(&pb.RangeRequest{Key: r.leader})},
	})
	if err != nil {
		return nil, 0, err
	}
	now := resp.Header.GetRevision()
	if len(resp.Responses) != 2 && resp.Succeeded || len(resp.Responses) == 0 {
		return nil, now, answered(op, e.name, errIncomplete)
	}
	first := resp.Responses[0].GetResponseRange().GetKvs()
	if len(first) == 0 {
		return nil, now, nil
	}
	if !resp.Succeeded {
		if first[0].Lease == 0 {
			return nil, now, nil // no leader's
		}
		return first[0], now, nil
	}
	if err := e.beside.foreign(first); err != nil {
		return nil, now, answered(op, e.name, err)
	}
	for _, c := range r.inOrder(resp.Responses[1].GetResponseRange().GetKvs()) {
		if int64(c.lease) == first[0].Lease { // on its way, and not elected yet
			return nil, now, nil
		}
	}
	return first[0], now, nil
}

// runBeside is run for an election that others lead too: it reads anew after each change.
func (o *observation) runBeside(ctx context.Context, op string) error {
	for {
		now, revision, err := o.election.leaderKey(ctx, op)
		if err != nil {
			return err
		}
		if now != nil && now.ModRevision != o.seen && !o.deliver(ctx, now) {
			return nil
		}
		if err := o.untilChanged(ctx, now, revision+1); err != nil {
			return ofCall(op, o.election.name, err)
		}
	}
}

// untilChanged waits until somebody else may lead, or with another value.
func (o *observation) untilChanged(ctx context.Context, now *mvccpb.KeyValue, from int64) error {
	e := o.election
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ours, err := e.client.watchClaim(ctx, e.ranges.leader, watchOptions{revision: from, raw: true})
	if err != nil {
		return err
	}
	theirs, err := e.client.watchClaims(ctx, e.beside.theirs, watchOptions{revision: from, raw: true})
	if err != nil {
		return err
	}
	for {
		var r WatchResponse
		var open bool
		select {
		case <-e.life.Done():
			return e.closedReason()
		case r, open = <-ours:
		case r, open = <-theirs:
		}
		if !open || r.Err() != nil {
			return r.Err()
		}
		for _, ev := range r.Events {
			// While somebody leads, whoever comes or goes elsewhere changes nothing.
			if key := string(ev.raw.Key); now == nil || key == string(now.Key) || key == string(e.ranges.leader) {
				return nil
			}
		}
	}
}
