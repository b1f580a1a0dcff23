package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Txn is a transaction: if all conditions hold, the operations of Then are
// applied, else those of Else, atomically and in one revision. Make one with
// [Client.Txn]. It is not safe for concurrent use; a call of a method twice adds
// to what the first call gave.
type Txn struct {
	client     *Client
	conditions []Condition
	then, els  []Op
}

// Txn returns an empty transaction.
func (c *Client) Txn() *Txn { return &Txn{client: c} }

// If adds conditions. Without any, the operations of Then are applied.
func (t *Txn) If(conditions ...Condition) *Txn {
	t.conditions = append(t.conditions, conditions...)
	return t
}

// Then adds operations for the case that all conditions hold.
func (t *Txn) Then(ops ...Op) *Txn {
	t.then = append(t.then, ops...)
	return t
}

// Else adds operations for the case that a condition does not hold.
func (t *Txn) Else(ops ...Op) *Txn {
	t.els = append(t.els, ops...)
	return t
}

// Commit sends the transaction, in one round trip. A condition that does not
// hold is no error: see [TxnResult.Succeeded].
//
// Where values are encrypted or compressed, the server can't compare them. A
// transaction with conditions on values then takes a second round trip: the
// values are read and compared here, and the transaction is bound to the mod
// revisions that were read. If one of them has changed meanwhile, the answer
// holds the new values and it is tried again. The outcome is the same as if the
// server had compared. It fails with [ErrConflict] when the values still keep
// changing at the deadline. If such a transaction has conditions of both kinds,
// those on values count towards the limit of the operations as well.
//
// It fails with [ErrTooManyOps] above [Config.MaxTxnOps] operations or
// conditions, with [ErrDuplicateKey] when a branch writes a key twice, and with
// [ErrTooLarge] above [Config.MaxRequestBytes]; nothing is sent then.
func (t *Txn) Commit(ctx context.Context) (*TxnResult, error) {
	return t.client.commit(ctx, "txn", t.firstKey(), t)
}

func (t *Txn) firstKey() string {
	switch {
	case len(t.conditions) > 0:
		return t.conditions[0].key
	case len(t.then) > 0:
		return t.then[0].key
	case len(t.els) > 0:
		return t.els[0].key
	}
	return ""
}

// commit is Commit for an operation of another name.
func (c *Client) commit(ctx context.Context, op, key string, t *Txn) (*TxnResult, error) {
	wire, err := c.wireTxn(t)
	if err != nil {
		return nil, fail(op, key, err)
	}
	r := request{op: op, key: key, write: wire.writes}
	if len(wire.values) > 0 {
		if err := c.checkGuarded(wire); err != nil {
			return nil, fail(op, key, err)
		}
		return c.commitGuarded(ctx, r, wire)
	}
	resp, err := c.sendTxn(ctx, r, wire.request())
	if err != nil {
		return nil, err
	}
	return c.txnResult(ctx, resp, wire.ops(resp.Succeeded)), nil
}

// sendTxn checks and sends a transaction.
func (c *Client) sendTxn(ctx context.Context, r request, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := c.checkSize(req); err != nil {
		return nil, fail(r.op, r.key, err)
	}
	return do(ctx, c, r, c.rpc.txn, req)
}

// wireTxn is a transaction in the server's terms, but for the conditions on
// values that the server can't decide.
type wireTxn struct {
	source   *Txn
	compares []*pb.Compare
	values   []Condition
	reads    []*pb.RequestOp // of the keys of values, in that order
	then     []*pb.RequestOp
	els      []*pb.RequestOp
	writes   bool
}

func (c *Client) wireTxn(t *Txn) (*wireTxn, error) {
	w := &wireTxn{source: t}
	if n := max(len(t.conditions), len(t.then), len(t.els)); n > c.cfg.MaxTxnOps {
		return nil, fmt.Errorf("%w: %d, the limit is %d", ErrTooManyOps, n, c.cfg.MaxTxnOps)
	}
	for _, cond := range t.conditions {
		compare, err := c.compare(cond)
		if err != nil {
			return nil, err
		}
		if cond.target == pb.Compare_VALUE && !c.codec.plain(compare.Key) {
			w.values = append(w.values, cond)
			w.reads = append(w.reads, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: compare.Key}}})
			continue
		}
		w.compares = append(w.compares, compare)
	}
	var err error
	if w.then, err = c.requestOps(t.then, &w.writes); err == nil {
		w.els, err = c.requestOps(t.els, &w.writes)
	}
	return w, err
}

// request returns the transaction without its conditions on values.
func (w *wireTxn) request() *pb.TxnRequest {
	return &pb.TxnRequest{Compare: w.compares, Success: w.then, Failure: w.els}
}

// ops returns the operations that were applied.
func (w *wireTxn) ops(succeeded bool) []Op {
	if succeeded {
		return w.source.then
	}
	return w.source.els
}

// TxnResult is the outcome of a committed transaction.
type TxnResult struct {
	// Succeeded tells whether all conditions held, so that the operations of
	// Then were applied; else those of Else were.
	Succeeded bool
	// Revision is the revision of the store after the transaction.
	Revision int64
	// Results holds the result of each applied operation, in order.
	Results []OpResult
}

// OpResult is the result of one operation of a transaction.
type OpResult struct {
	// Key is the key or the prefix of the operation.
	Key string
	// KVs holds what a get found, in the order of the keys, without what could
	// not be decoded.
	KVs []KeyValue
	// Err joins a [*DecodeError] for each value that a get found and that could
	// not be decoded. It is not an error of the transaction, which was applied.
	Err error
	// Count is how many keys a get found, with those past its limit.
	Count int64
	// Deleted is how many keys a delete deleted.
	Deleted int64
}

// KV returns the first key-value that a get of key or of a prefix found under
// that key.
func (r *TxnResult) KV(key string) (KeyValue, bool) {
	for _, res := range r.Results {
		for _, kv := range res.KVs {
			if kv.Key == key {
				return kv, true
			}
		}
	}
	return KeyValue{}, false
}

func (c *Client) txnResult(ctx context.Context, resp *pb.TxnResponse, ops []Op) *TxnResult {
	out := &TxnResult{Succeeded: resp.Succeeded, Revision: resp.Header.GetRevision(), Results: make([]OpResult, len(ops))}
	for i, op := range ops {
		res := &out.Results[i]
		res.Key = op.key
		switch r := resp.Responses[i].Response.(type) {
		case *pb.ResponseOp_ResponseRange:
			res.KVs, res.Err = c.keyValues(ctx, r.ResponseRange.Kvs, op.keysOnly)
			res.Count = r.ResponseRange.Count
		case *pb.ResponseOp_ResponseDeleteRange:
			res.Deleted = r.ResponseDeleteRange.Deleted
		}
	}
	return out
}

// withDeadline runs an operation of several requests under one deadline: the
// caller's, or RequestTimeout for all of them together.
func (c *Client) withDeadline(ctx context.Context, op, key string, f func(context.Context) error) error {
	if err := c.admit(ctx); err != nil {
		return fail(op, key, err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.RequestTimeout)
		defer cancel()
	}
	return f(ctx)
}
