package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// likeConcurrency is the rule of locks that take turns with the mutexes and elections of clientv3's
// package concurrency, etcdctl and the lock service of the server: a claim is a key under
// name/, and holds when no key there is older. Beside it, it may have to be the oldest in a
// range of inOrder too; it then has a key in either, made at one revision, so that nobody who
// waits for one has what the other waits for.
type likeConcurrency struct {
	client *Client
	theirs keys.Range // name/
	ours   *inOrder   // nil for none
}

// foreign returns ErrForeignKey for the first of some key-values of their range that is no claim.
func (r likeConcurrency) foreign(kvs []*mvccpb.KeyValue) error {
	for _, kv := range kvs {
		if !isBareClaim(kv, len(r.theirs.Start)) {
			return fmt.Errorf("%w: %q", ErrForeignKey, r.client.visible(kv.Key))
		}
	}
	return nil
}

// ranges returns the ranges that a claim must be the oldest in.
func (r likeConcurrency) ranges() []keys.Range {
	if r.ours != nil {
		return []keys.Range{r.ours.before, r.theirs}
	}
	return []keys.Range{r.theirs}
}

// request implements [precedence].
func (r likeConcurrency) request(c *claim, queue bool) *pb.TxnRequest {
	put := []*pb.RequestOp{c.put()}
	get := txntree.Range(c.read())
	own := []keys.Range{{Start: c.stored}}
	if c.twin != nil {
		put = append(put, txntree.Put(&pb.PutRequest{Key: c.twin.stored, Lease: int64(c.lease)}))
		own = append(own, keys.Range{Start: c.twin.stored})
	}
	if !queue {
		return &pb.TxnRequest{
			Compare: txntree.Absent(r.ranges()...), Success: put,
			Failure: []*pb.RequestOp{get, txntree.Range(r.end(pb.RangeRequest_ASCEND))},
		}
	}
	for _, all := range r.ranges() {
		put = append(put, txntree.Range(outermost(all, pb.RangeRequest_ASCEND)))
	}
	return &pb.TxnRequest{Compare: txntree.Absent(own...), Success: put, Failure: []*pb.RequestOp{get}}
}

// end reads the oldest or the youngest key of their range, with its lease, which a read of keys
// alone leaves out.
func (r likeConcurrency) end(order pb.RangeRequest_SortOrder) *pb.RangeRequest {
	read := outermost(r.theirs, order)
	read.KeysOnly = false
	return read
}

// answered implements [precedence].
func (r likeConcurrency) answered(c *claim, resp *pb.TxnResponse) (verdict, error) {
	v, err := inOrder{}.answered(c, resp)
	if err == nil && v == refused && len(resp.Responses) == 2 {
		err = r.foreign(resp.Responses[1].GetResponseRange().GetKvs())
	}
	return v, err
}

// ahead implements [precedence].
func (r likeConcurrency) ahead(ctx context.Context, l *contender, op string, c *claim) (func(context.Context) error, error) {
	reads := []*pb.RangeRequest{r.end(pb.RangeRequest_DESCEND), r.end(pb.RangeRequest_ASCEND)}
	if r.ours != nil {
		reads = append(reads, r.ours.last())
	}
	found, now, err := l.look(ctx, op, c, reads...)
	if err != nil {
		return nil, err
	}
	// The youngest is what to wait for. If the oldest is no claim, the others wait in vain.
	for _, kvs := range found[:2] {
		if err := r.foreign(kvs); err != nil {
			return nil, answered(op, l.name, err)
		}
	}
	for _, kvs := range found {
		if len(kvs) > 0 {
			return func(ctx context.Context) error {
				return l.client.gone(ctx, request{op: op, key: l.name}, kvs[0].Key, now+1)
			}, nil
		}
	}
	return nil, nil
}
