package etcd

import (
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/txntree"
)

// tellNewest has the answer to a transaction whose conditions don't hold tell about the
// key by which it can be proved that it was applied before, if it doesn't already. Only
// of a key that the user may read: it is part of a condition.
func (c *Client) tellNewest(w *wireTxn) {
	req := w.request
	if !c.codec.encrypts() || len(req.Compare) == 0 || changes(req.Failure) {
		return
	}
	proof, ok := c.proof(req.Success, boundTo(req.Compare), nil)
	isRead := func(op *pb.RequestOp) bool {
		read := op.GetRequestRange()
		return read != nil && string(read.Key) == string(proof.key)
	}
	isCompared := func(cmp *pb.Compare) bool { return cmp.RangeEnd == nil && string(cmp.Key) == string(proof.key) }
	if !ok || slices.ContainsFunc(req.Failure, isRead) || !slices.ContainsFunc(req.Compare, isCompared) {
		return
	}
	before := req.Failure
	req.Failure = append(slices.Clip(req.Failure), txntree.Range(&pb.RangeRequest{Key: proof.key, KeysOnly: true}))
	if w.checkLoad(req) != nil {
		req.Failure = before
	}
}

// Commit sends the transaction, in one round trip. A condition that does not
// hold is no error: see [TxnResult.Succeeded]. When it fails, nothing is applied
// unless [MaybeApplied] says so, and then all of it: an operation that the server
// refuses, such as a put with a lease that does not exist, takes the others with
// it if it is on the branch that is taken. Conditions are linearizable, unless all
// operations are gets [WithSerializable]: then they are as stale as those.
//
// Where values are encrypted or compressed, the server can't compare them. A
// transaction with conditions on values, its own or those of nested ones, then
// takes a second round trip: the values are read and compared here, and the
// transaction is bound to the mod revisions that were read. If one of them has
// changed meanwhile, the answer holds the new values and it is tried again. The
// outcome is the same as if the server had compared. It fails with [ErrConflict]
// when the values still keep changing at the deadline, and with a [*DecodeError]
// when one that matters can't be decoded.
//
// It fails with [ErrTooManyOps] above [Config.MaxTxnOps] operations or
// conditions, where an operation that is nested counts with the longest branch of
// each level around it; with [ErrDuplicateKey] when operations that may be applied
// together put a key twice, or put and delete it; and with [ErrTooLarge] above
// [Config.MaxRequestBytes]. Nothing is sent then. Conditions on values that are
// compared here count as a level around the rest if the outermost transaction has
// other conditions too, and as operations beside its branch otherwise: those on
// one key count once, and one on a prefix counts twice.
func (t *Txn) Commit(ctx context.Context) (*TxnResult, error) {
	const op = "txn"
	if t == nil || t.client == nil {
		return nil, fail(op, "", fmt.Errorf("%w: nil or zero transaction", ErrInvalidArgument))
	}
	return t.client.commit(ctx, request{op: op}, t)
}

// commit is Commit for an operation of another name. An empty key stands for the
// first one of the transaction.
func (c *Client) commit(ctx context.Context, r request, t *Txn) (*TxnResult, error) {
	wire, err := c.compileTxn(ctx, t)
	if r.key == "" {
		r.key = wire.first
	}
	if err != nil {
		return nil, r.fail(err)
	}
	r.write, r.seals, r.versions = wire.writes, wire.seals, t.versions
	if len(wire.values) > 0 {
		if err := wire.checkGuarded(); err != nil {
			return nil, r.fail(err)
		}
		return c.commitGuarded(ctx, r, wire)
	}
	readLinearizably(wire.request)
	c.tellNewest(wire)
	resp, err := c.sendTxn(ctx, r, wire.request)
	if err != nil {
		return nil, err
	}
	return c.txnResult(ctx, resp, resp.Header.GetRevision(), t), nil
}

// txnResult converts the outcome of a transaction of the tree, which holds nothing
// of the branches that were not taken.
func (c *Client) txnResult(ctx context.Context, resp *pb.TxnResponse, revision int64, t *Txn) *TxnResult {
	d := c.codec.decoding(ctx)
	defer d.end()
	return d.txnResult(resp, revision, t)
}

// commitGuarded commits a transaction with conditions on values that only this
// client can compare. It reads and compares them, and sends a transaction that
// holds them still, by mod revision, while the rest of it is decided.
func (c *Client) commitGuarded(ctx context.Context, r request, w *wireTxn) (*TxnResult, error) {
	var result *TxnResult
	err := c.untilUncontested(ctx, r, func(ctx context.Context) (bool, error) {
		found, err := c.sendTxn(ctx, request{op: r.op, key: r.key}, &pb.TxnRequest{Success: w.reads})
		for n := 0; err == nil && result == nil && n < triesPerRound; n++ {
			result, found, err = c.tryGuarded(ctx, r, w, found)
			err = afterConflicts(ctx, n, err)
		}
		return result != nil, err
	})
	return result, err
}

// tryGuarded commits a transaction if its values still are as they were found.
// If not, the result is nil and it returns how they are found now.
func (c *Client) tryGuarded(ctx context.Context, r request, w *wireTxn, found *pb.TxnResponse) (*TxnResult, *pb.TxnResponse, error) {
	d := &decision{wire: w, found: found, values: make([][]KeyValue, len(w.reads))}
	req, err := d.request(ctx)
	if err != nil {
		return nil, nil, r.answered(err)
	}
	resp, err := c.sendTxn(ctx, r, req)
	if err != nil {
		return nil, nil, err
	}
	if !resp.Succeeded {
		return nil, resp, nil
	}
	revision := resp.Header.GetRevision()
	if d.nested {
		resp = resp.Responses[0].GetResponseTxn()
	} else {
		resp.Succeeded = d.hold
	}
	return c.txnResult(ctx, resp, revision, w.source), nil, nil
}
