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

// request implements [precedence]. For a queue it tells the oldest claim beside putting one,
// which takes a server less time than deciding by a condition whether it is the first.
func (r inOrder) request(c *claim, queue bool) *pb.TxnRequest {
	put, get := c.put(), txntree.Range(c.read())
	own := keys.Range{Start: c.stored}
	if queue {
		return &pb.TxnRequest{
			Compare: txntree.Absent(own),
			Success: []*pb.RequestOp{put, txntree.Range(r.first())},
			Failure: []*pb.RequestOp{get},
		}
	}
	return &pb.TxnRequest{Compare: txntree.Absent(r.before, own), Success: []*pb.RequestOp{put}, Failure: []*pb.RequestOp{get}}
}

// answered implements [precedence].
func (inOrder) answered(c *claim, resp *pb.TxnResponse) (verdict, error) {
	c.token = resp.Header.GetRevision()
	if resp.Succeeded {
		return c.first(resp.Responses), nil
	}
	if len(resp.Responses) == 0 || !c.foundOwn(resp.Responses[0].GetResponseRange()) {
		return refused, nil
	}
	if c.mayWait {
		return queued, nil // ahead finds out whether it holds
	}
	return holds, nil // it was put only if it does
}

// first returns whether a claim that was put holds, by the oldest claims, which the answer tells
// if it was put for a queue.
func (c *claim) first(told []*pb.ResponseOp) verdict {
	if c.mayWait && (len(told) == 0 || told[len(told)-1].GetResponseRange() == nil) {
		return queued // ahead finds out
	}
	for _, op := range told {
		for _, kv := range op.GetResponseRange().GetKvs() {
			if kv.CreateRevision < c.token {
				return queued
			}
		}
	}
	return holds
}

// ahead implements [precedence].
func (r inOrder) ahead(ctx context.Context, l *contender, op string, c *claim) (func(context.Context) error, error) {
	found, now, err := l.look(ctx, op, c, r.last())
	if err != nil || len(found[0]) == 0 {
		return nil, err
	}
	return func(ctx context.Context) error {
		return l.client.gone(ctx, request{op: op, key: l.name}, found[0][0].Key, now+1)
	}, nil
}

// first reads the oldest claim, and last the youngest.
func (r inOrder) first() *pb.RangeRequest { return outermost(r.before, pb.RangeRequest_ASCEND) }

func (r inOrder) last() *pb.RangeRequest { return outermost(r.before, pb.RangeRequest_DESCEND) }

// outermost reads the oldest or the youngest key of a range.
func outermost(r keys.Range, order pb.RangeRequest_SortOrder) *pb.RangeRequest {
	return &pb.RangeRequest{
		Key: r.Start, RangeEnd: r.End, Limit: 1, KeysOnly: true, SortTarget: pb.RangeRequest_CREATE, SortOrder: order,
	}
}
