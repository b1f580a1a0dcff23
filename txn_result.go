package etcd

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// TxnResult is the outcome of a committed transaction.
type TxnResult struct {
	// Succeeded reports whether all conditions held and the operations of Then were
	// applied; otherwise those of Else were.
	Succeeded bool
	// Revision is the revision of the store after the transaction.
	Revision int64
	// Results holds the result of each applied operation, in order.
	Results []OpResult
}

// OpResult is the result of one operation of a transaction.
type OpResult struct {
	// Key is the key, the prefix or the start of the range of the operation; it is
	// empty for a nested transaction.
	Key string
	// KVs holds what a get found, in the order of the keys, without values that could not
	// be decoded.
	KVs []KeyValue
	// Err joins a [*DecodeError] for each value that was found but could not be decoded.
	// It is not an error of the transaction, which was applied.
	Err error
	// Count is how many keys a get found, including those past its limit.
	Count int64
	// Deleted is how many keys a delete deleted.
	Deleted int64
	// PrevKV is what the put or the delete of one key replaced or deleted, if
	// [WithPrevKV] asked for it; nil if there was nothing. If its Value could not be
	// decoded, it is nil, and Err says why.
	PrevKV *KeyValue
	// Txn is the outcome of a nested transaction, with the revision of the outer one; nil
	// for other operations.
	Txn *TxnResult
}

// KV returns the first key-value that an operation found under key, in the order of the
// operations, including those of nested transactions. It returns false for a key that no
// operation read or found, and for one whose value could not be decoded; [TxnResult.Err]
// reports that.
func (r *TxnResult) KV(key string) (KeyValue, bool) {
	for _, res := range r.Results {
		for _, kv := range res.KVs {
			if kv.Key == key {
				return kv, true
			}
		}
		if res.Txn != nil {
			if kv, ok := res.Txn.KV(key); ok {
				return kv, true
			}
		}
	}
	return KeyValue{}, false
}

// Err joins the errors of the results, including those of nested transactions: a
// [*DecodeError] for each value that could not be decoded; nil if there is none.
func (r *TxnResult) Err() error {
	var bad []error
	for _, res := range r.Results {
		if bad = append(bad, res.Err); res.Txn != nil {
			bad = append(bad, res.Txn.Err())
		}
	}
	return joinUndecoded(bad...)
}

func (d *decoding) txnResult(resp *pb.TxnResponse, revision int64, t *Txn) *TxnResult {
	ops := t.els
	if resp.Succeeded {
		ops = t.then
	}
	out := &TxnResult{Succeeded: resp.Succeeded, Revision: revision, Results: make([]OpResult, len(ops))}
	for i, op := range ops {
		res := &out.Results[i]
		res.Key = op.key
		switch r := resp.Responses[i].Response.(type) {
		case *pb.ResponseOp_ResponseRange:
			found := r.ResponseRange.Kvs
			if op.reach != oneKey && !op.keysOnly {
				found = withoutClaims(found)
			}
			res.KVs, res.Err = d.keyValues(found, op.keysOnly)
			res.Count = r.ResponseRange.Count
		case *pb.ResponseOp_ResponseDeleteRange:
			res.Deleted = r.ResponseDeleteRange.Deleted
			if op.reach == oneKey && len(r.ResponseDeleteRange.PrevKvs) > 0 {
				res.PrevKV, res.Err = d.replaced(r.ResponseDeleteRange.PrevKvs[0])
			}
		case *pb.ResponseOp_ResponsePut:
			res.PrevKV, res.Err = d.replaced(r.ResponsePut.PrevKv)
		case *pb.ResponseOp_ResponseTxn:
			res.Txn = d.txnResult(r.ResponseTxn, revision, op.txn)
		}
	}
	return out
}

// tellTxn sets the result from the outcome of a transaction whose first operation is the
// write.
func (o writeOptions) tellTxn(r *TxnResult) {
	if o.result == nil || r == nil {
		return
	}
	o.result.Revision = r.Revision
	if o.prevKV && r.Succeeded && len(r.Results) > 0 {
		o.result.PrevKV, o.result.Err = r.Results[0].PrevKV, r.Results[0].Err
	}
}
