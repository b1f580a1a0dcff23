package etcd

import (
	"bytes"
	"context"
	"fmt"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// commitGuarded commits a transaction with conditions on values that only this
// client can compare. It reads and compares them, and sends a transaction that
// holds them still, by mod revision, while the rest of it is decided.
func (c *Client) commitGuarded(ctx context.Context, r request, w *wireTxn) (*TxnResult, error) {
	var result *TxnResult
	err := c.compete(ctx, r.op, r.key, func(ctx context.Context) (bool, error) {
		found, err := c.sendTxn(ctx, request{op: r.op, key: r.key}, &pb.TxnRequest{Success: w.reads})
		for n := 0; err == nil && result == nil && n < triesPerRound; n++ {
			result, found, err = c.tryGuarded(ctx, r, w, found)
		}
		return result != nil, err
	})
	return result, err
}

// tryGuarded commits a transaction if its values still are as they were found.
// If not, the result is nil and it returns how they are found now.
func (c *Client) tryGuarded(ctx context.Context, r request, w *wireTxn, found *pb.TxnResponse) (*TxnResult, *pb.TxnResponse, error) {
	guards, hold, err := c.decide(ctx, w, found.Responses)
	if err != nil {
		return nil, nil, answered(r.op, r.key, err)
	}
	resp, err := c.sendTxn(ctx, r, w.guarded(guards, hold))
	if err != nil {
		return nil, nil, err
	}
	if !resp.Succeeded {
		return nil, resp, nil
	}
	if w.nests(hold) {
		inner := resp.Responses[0].GetResponseTxn()
		hold, resp.Responses = inner.Succeeded, inner.Responses
	}
	resp.Succeeded = hold
	return c.txnResult(ctx, resp, w.ops(hold)), nil, nil
}

// nests reports whether the guarded transaction has an inner one: where its
// outcome depends on more than the values. Otherwise the guards alone decide.
func (w *wireTxn) nests(hold bool) bool { return hold && len(w.compares) > 0 }

// guarded returns the transaction for values that were compared with the outcome
// hold, to be applied as long as the guards are true. Otherwise it reads the
// values anew.
func (w *wireTxn) guarded(guards []*pb.Compare, hold bool) *pb.TxnRequest {
	req := &pb.TxnRequest{Compare: guards, Success: w.els, Failure: w.reads}
	switch {
	case w.nests(hold):
		req.Success = []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: w.request()}}}
	case hold:
		req.Success = w.then
	}
	return req
}

// checkGuarded refuses what the server would, before the values are read.
func (c *Client) checkGuarded(w *wireTxn) error {
	// The server counts the operations of the outer level against the limit of
	// the inner one.
	outer, inner := len(w.values), max(len(w.compares), len(w.then), len(w.els))
	if n := outer + inner; w.nests(true) && n > c.cfg.MaxTxnOps {
		return fmt.Errorf("%w: %d with the conditions on values, the limit is %d", ErrTooManyOps, n, c.cfg.MaxTxnOps)
	}
	longest := make([]*pb.Compare, len(w.reads))
	for i, read := range w.reads {
		longest[i] = guard(read.GetRequestRange().Key, math.MaxInt64)
	}
	for _, hold := range []bool{true, false} {
		if err := c.checkSize(w.guarded(longest, hold)); err != nil {
			return err
		}
	}
	return nil
}

// guard returns the condition that a key as stored has this mod revision; 0 means
// that it is missing.
func guard(stored []byte, revision int64) *pb.Compare {
	return &pb.Compare{
		Key: stored, Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: revision},
	}
}

// decide compares the values that were found with the conditions. The guards are
// true for as long as the outcome is.
func (c *Client) decide(ctx context.Context, w *wireTxn, found []*pb.ResponseOp) (guards []*pb.Compare, hold bool, err error) {
	hold = true
	guards = make([]*pb.Compare, len(w.values))
	for i, cond := range w.values {
		stored := w.reads[i].GetRequestRange().Key
		kvs := found[i].GetResponseRange().GetKvs()
		if len(kvs) == 0 {
			// As on the server: no condition on the value of a missing key holds.
			guards[i] = guard(stored, 0)
			hold = false
			continue
		}
		guards[i] = guard(stored, kvs[0].ModRevision)
		kv, err := c.keyValue(ctx, kvs[0], false)
		if err != nil {
			return nil, false, err
		}
		hold = hold && cond.holds(bytes.Compare(kv.Value, cond.value))
	}
	return guards, hold, nil
}
