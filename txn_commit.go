package etcd

import (
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/txntree"
)

// tellNewest makes the answer to a transaction whose conditions don't hold include the
// key that can prove that the transaction was applied before, unless it does already. It
// only adds a key that the user may read: one that a condition is about.
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

// Commit sends the transaction, in one round trip. A condition that does not hold is no
// error: see [TxnResult.Succeeded]. If Commit fails, nothing is applied unless
// [MaybeApplied] reports true, and then all of it: if the server refuses an operation of
// the branch that is taken, such as a put with a lease that does not exist, it refuses
// the others with it. Conditions are linearizable, unless all operations are gets
// [WithSerializable]: then they are as stale as those.
//
// The server can't compare encrypted or compressed values. A transaction with conditions
// on such values, including those of nested ones, takes a second round trip: the client
// reads and compares the values, and binds the transaction to the mod revisions that it
// read. If one of them has changed meanwhile, the answer holds the new values and the
// client tries again. The outcome is the same as if the server had compared. Commit fails
// with [ErrConflict] if the values still keep changing at the deadline, and with a
// [*DecodeError] if one that matters can't be decoded.
//
// It fails with [ErrTooManyOps] above [Config.MaxTxnOps] operations or conditions, where
// a nested operation counts together with the longest branch of each level around it;
// with [ErrDuplicateKey] if operations that may be applied together put a key twice, or
// put and delete it; and with [ErrTooLarge] above [Config.MaxRequestBytes]. Then nothing
// is sent. Conditions on values that the client compares count as a level around the rest
// if the outermost transaction has other conditions too, and as operations beside its
// branch otherwise: all those on one key count as one, and one on a prefix counts as two.
func (t *Txn) Commit(ctx context.Context) (*TxnResult, error) {
	const op = "txn"
	if t == nil || t.client == nil {
		return nil, fail(op, "", fmt.Errorf("%w: nil or zero transaction", ErrInvalidArgument))
	}
	return t.client.commit(ctx, request{op: op}, t)
}

// commit is Commit for an operation of another name. An empty key stands for the first
// key of the transaction.
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

// txnResult converts the outcome of a transaction of the tree. Branches that were not
// taken leave nothing in it.
func (c *Client) txnResult(ctx context.Context, resp *pb.TxnResponse, revision int64, t *Txn) *TxnResult {
	d := c.codec.decoding(ctx)
	defer d.end()
	return d.txnResult(resp, revision, t)
}

// commitGuarded commits a transaction with conditions on values that only this client can
// compare. It reads and compares them, and sends a transaction that is bound to their mod
// revisions, so that they can't change while the server decides the rest.
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

// tryGuarded commits a transaction if its values are unchanged since found. If not, the
// result is nil, and it returns the values as they are now.
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
