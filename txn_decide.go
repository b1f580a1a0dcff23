package etcd

import (
	"bytes"
	"context"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/txntree"
)

// guarded returns the transaction that applies ops if the guards hold, and otherwise
// reads the values anew.
func (w *wireTxn) guarded(guards []*pb.Compare, ops []*pb.RequestOp) *pb.TxnRequest {
	return &pb.TxnRequest{Compare: guards, Success: ops, Failure: w.reads}
}

// checkGuarded refuses, before the values are read, what the server would refuse whatever
// the values are.
func (w *wireTxn) checkGuarded() error {
	root := w.request
	hold := root.Success
	if len(root.Compare) > 0 {
		// A copy without the conditions on values, which are decided by then.
		hold = []*pb.RequestOp{txntree.Txn(&pb.TxnRequest{Compare: root.Compare, Success: root.Success, Failure: root.Failure})}
	}
	guards := w.longestGuards()
	for _, ops := range [][]*pb.RequestOp{hold, root.Failure} {
		req := w.guarded(guards, ops)
		if err := w.checkLoad(req); err != nil {
			return err
		}
		if err := w.client.rpc.CheckSize(req); err != nil {
			return err
		}
	}
	return nil
}

// longestGuards returns as many guards as there can be, and as large ones, except for the
// length of the keys under a prefix.
func (w *wireTxn) longestGuards() []*pb.Compare {
	var all txntree.Guards
	for _, op := range w.reads {
		if read := op.GetRequestRange(); read.RangeEnd != nil {
			all.NothingNewer(read, math.MaxInt64-1)
		} else {
			all.Unchanged(read.Key, math.MaxInt64)
		}
	}
	longest := all.Compares
	for _, conditions := range w.values {
		for _, cond := range conditions {
			if cond.prefix { // each may depend on another key
				longest = append(longest, txntree.Unchanged(all.Compares[cond.read].Key, math.MaxInt64))
			}
		}
	}
	return longest
}

// decision is the outcome of the conditions on values, given what was found, and the
// guards that ensure that this outcome still holds.
type decision struct {
	wire   *wireTxn
	found  *pb.TxnResponse
	values [][]KeyValue // of each read, once they are decoded
	guards txntree.Guards
	// hold reports whether the conditions on values of the outermost transaction hold;
	// nested, whether it has other conditions that are still to be decided.
	hold, nested bool
}

// request returns the transaction with the conditions on values decided. Without other
// conditions the outermost level needs none except the guards.
func (d *decision) request(ctx context.Context) (*pb.TxnRequest, error) {
	root := d.wire.request
	var err error
	if d.hold, err = d.holds(ctx, root); err != nil {
		return nil, err
	}
	d.nested = d.hold && len(root.Compare) > 0
	ops := root.Failure
	switch {
	case d.nested:
		ops = []*pb.RequestOp{txntree.Txn(root)}
	case d.hold:
		ops = root.Success
	}
	ops, err = d.branch(ctx, ops)
	return d.wire.guarded(d.guards.Compares, ops), err
}

// txn returns a transaction of the tree as decided, without a branch that can no longer
// be taken.
func (d *decision) txn(ctx context.Context, req *pb.TxnRequest) (*pb.TxnRequest, error) {
	hold, err := d.holds(ctx, req)
	if err != nil {
		return nil, err
	}
	out := &pb.TxnRequest{Compare: req.Compare}
	if hold {
		if out.Success, err = d.branch(ctx, req.Success); err != nil {
			return nil, err
		}
	} else {
		first := d.wire.reads[d.wire.values[req][0].read].GetRequestRange()
		out.Compare = []*pb.Compare{txntree.Never(first.Key)}
	}
	if len(out.Compare) > 0 {
		out.Failure, err = d.branch(ctx, req.Failure)
	}
	return out, err
}

// branch returns the operations of a branch that may be taken.
func (d *decision) branch(ctx context.Context, ops []*pb.RequestOp) ([]*pb.RequestOp, error) {
	out := make([]*pb.RequestOp, len(ops))
	for i, op := range ops {
		out[i] = op
		if txn := op.GetRequestTxn(); txn != nil {
			decided, err := d.txn(ctx, txn)
			if err != nil {
				return nil, err
			}
			out[i] = txntree.Txn(decided)
		}
	}
	return out, nil
}

// holds reports whether the conditions on values of a transaction of the tree hold. The
// first one that does not hold decides.
func (d *decision) holds(ctx context.Context, req *pb.TxnRequest) (bool, error) {
	for _, cond := range d.wire.values[req] {
		if hold, err := d.condition(ctx, cond); err != nil || !hold {
			return false, err
		}
	}
	return true, nil
}

// condition decides a condition as the server would: it holds if there are keys and all
// their values compare accordingly.
//
// A few guards suffice, whatever the size of a prefix. If one value does not compare, its
// key is the guard. If all do, one existing key and "nothing newer in the range" are the
// guards; deleting the others changes nothing.
func (d *decision) condition(ctx context.Context, cond valueCondition) (bool, error) {
	kvs, err := d.read(ctx, cond.read)
	if err != nil {
		return false, err
	}
	for _, kv := range kvs {
		if !cond.holds(bytes.Compare(kv.Value, cond.value)) {
			d.witness(kv)
			return false, nil
		}
	}
	read := d.wire.reads[cond.read].GetRequestRange()
	switch {
	case read.RangeEnd != nil:
		d.guards.NothingNewer(read, d.found.Header.GetRevision())
	case len(kvs) == 0:
		d.guards.Unchanged(read.Key, 0)
	}
	if len(kvs) == 0 {
		return false, nil
	}
	d.witness(kvs[0])
	return true, nil
}

// witness guards a key that a decision depends on.
func (d *decision) witness(kv KeyValue) {
	d.guards.Unchanged(d.wire.client.whole(kv.Key), kv.ModRevision)
}

// read returns the result of a read.
func (d *decision) read(ctx context.Context, n int) ([]KeyValue, error) {
	if d.values[n] == nil {
		found := d.found.Responses[n].GetResponseRange().GetKvs()
		if d.wire.reads[n].GetRequestRange().RangeEnd != nil {
			found = withoutClaims(found) // nobody compares their values
		}
		kvs, err := d.wire.client.keyValues(ctx, found)
		if err != nil {
			return nil, err
		}
		d.values[n] = kvs
	}
	return d.values[n], nil
}
