package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// inOrder is the rule of locks: a claim holds when no older one is left in a range of keys.
// Each waiter watches only the youngest of those, so that a release wakes one waiter.
type inOrder struct{ before keys.Range }

// request implements [precedence].
func (r inOrder) request(c *claim, queue bool) *pb.TxnRequest {
	put := []*pb.RequestOp{txntree.Put(&pb.PutRequest{Key: c.stored, Value: c.record, Lease: int64(c.lease)})}
	get := []*pb.RequestOp{txntree.Range(&pb.RangeRequest{Key: c.stored, KeysOnly: true})}
	own := keys.Range{Start: c.stored}
	otherwise := get
	if queue {
		otherwise = []*pb.RequestOp{txntree.Txn(&pb.TxnRequest{Compare: absent(own), Success: put, Failure: get})}
	}
	return &pb.TxnRequest{Compare: absent(r.before, own), Success: put, Failure: otherwise}
}

// absent returns the conditions that no key is in any of the ranges.
func absent(ranges ...keys.Range) []*pb.Compare {
	var out []*pb.Compare
	for _, r := range ranges {
		out = append(out, &pb.Compare{
			Key: r.Start, RangeEnd: r.End, Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 0},
		})
	}
	return out
}

// answered implements [precedence].
func (inOrder) answered(c *claim, resp *pb.TxnResponse) (verdict, error) {
	c.token = resp.Header.GetRevision()
	if resp.Succeeded {
		return holds, nil
	}
	if len(resp.Responses) == 0 {
		return refused, nil
	}
	own, there := resp.Responses[0].GetResponseRange(), holds // without a queue it is put only if it holds
	if txn := resp.Responses[0].GetResponseTxn(); txn != nil {
		if txn.Succeeded {
			return queued, nil
		}
		if there = queued; len(txn.Responses) > 0 {
			own = txn.Responses[0].GetResponseRange()
		}
	}
	if !c.foundOwn(own) {
		return refused, nil
	}
	return there, nil
}

// ahead implements [precedence].
func (r inOrder) ahead(ctx context.Context, l *contender, op string, c *claim) (func(context.Context) error, error) {
	found, now, err := l.look(ctx, op, c, r.last())
	if err != nil || len(found[0]) == 0 {
		return nil, err
	}
	return func(ctx context.Context) error { return l.client.gone(ctx, op, found[0][0].Key, now+1) }, nil
}

// last reads the youngest claim.
func (r inOrder) last() *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: r.before.Start, RangeEnd: r.before.End, Limit: 1, KeysOnly: true,
		SortTarget: pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_DESCEND,
	}
}
