package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// wireTxn is a transaction in the server's terms.
type wireTxn struct {
	client *Client
	source *Txn
	// request is the whole tree, except for the conditions that only this client can
	// decide.
	request *pb.TxnRequest
	// values are those conditions, by the transaction of the tree that has them.
	values map[*pb.TxnRequest][]valueCondition
	// reads find what those conditions are about, each only once.
	reads  []*pb.RequestOp
	readAt map[keys.Span]int
	writes bool
	seals  *sealedPut // puts of the whole tree whose values are encrypted
	// first is the key of the first condition or operation.
	first string
	named bool
	ops   int // so far
}

// level is a transaction of the tree that is being converted, and those around it.
type level struct {
	txn    *Txn
	depth  int
	around *level
}

// in reports whether t is one of them.
func (l *level) in(t *Txn) bool { return l != nil && (l.txn == t || l.around.in(t)) }

// valueCondition is a condition on what one of the reads finds.
type valueCondition struct {
	Condition
	read int
}

// compileTxn converts a transaction, and refuses what the server would refuse. Even with
// an error, the result names the first key.
func (c *Client) compileTxn(ctx context.Context, t *Txn) (*wireTxn, error) {
	w := &wireTxn{client: c, source: t}
	var err error
	if w.request, err = w.txn(ctx, t, nil); err != nil {
		return w, err
	}
	if err := w.checkLoad(w.request); err != nil {
		return w, err
	}
	if err := txntree.CheckOverlaps(w.request.Success, len(c.cfg.Namespace)); err != nil {
		return w, err
	}
	return w, txntree.CheckOverlaps(w.request.Failure, len(c.cfg.Namespace))
}

// txn converts a transaction of the tree.
func (w *wireTxn) txn(ctx context.Context, t *Txn, around *level) (*pb.TxnRequest, error) {
	here := &level{txn: t, depth: 1, around: around}
	if around != nil {
		here.depth = around.depth + 1
	}
	switch limit := w.client.cfg.MaxTxnOps; {
	case t == nil || t.client != w.client:
		return nil, fmt.Errorf("%w: transaction is nil, zero or of another client", ErrInvalidArgument)
	case around.in(t):
		return nil, fmt.Errorf("%w: transaction is nested in itself", ErrInvalidArgument)
	case here.depth > limit+1: // each of those around holds an operation
		return nil, fmt.Errorf("%w: %d levels, the limit is %d", ErrTooManyOps, here.depth, limit)
	}
	req := &pb.TxnRequest{}
	err := w.conditions(req, t.conditions)
	if err == nil {
		req.Success, err = w.branch(ctx, t.then, here)
	}
	if err == nil {
		req.Failure, err = w.branch(ctx, t.els, here)
	}
	return req, err
}

// conditions adds the conditions of a transaction of the tree.
func (w *wireTxn) conditions(req *pb.TxnRequest, conditions []Condition) error {
	for _, cond := range conditions {
		w.name(cond.key)
		compare, err := w.client.compare(cond)
		if err != nil {
			return err
		}
		if w.client.serverDecides(cond) {
			req.Compare = append(req.Compare, compare)
			continue
		}
		if w.values == nil {
			w.values, w.readAt = map[*pb.TxnRequest][]valueCondition{}, map[keys.Span]int{}
		}
		w.values[req] = append(w.values[req], valueCondition{cond, w.read(keys.Range{Start: compare.Key, End: compare.RangeEnd})})
	}
	return nil
}

// read returns the index of the read that finds the keys of rng.
func (w *wireTxn) read(rng keys.Range) int {
	at := keys.SpanOf(rng)
	n, ok := w.readAt[at]
	if !ok {
		n = len(w.reads)
		w.readAt[at] = n
		w.reads = append(w.reads, txntree.Range(txntree.Read(at)))
	}
	return n
}

// branch converts the operations of a branch.
func (w *wireTxn) branch(ctx context.Context, ops []Op, here *level) ([]*pb.RequestOp, error) {
	// One transaction may be nested in many places, so a small tree may unfold into a
	// huge one. No operation takes less than two bytes.
	if w.ops += len(ops); w.ops > w.client.cfg.MaxRequestBytes/2 {
		return nil, fmt.Errorf("%w: more than %d operations, the limit is %d bytes", ErrTooLarge, w.ops-1, w.client.cfg.MaxRequestBytes)
	}
	out := make([]*pb.RequestOp, len(ops))
	for i, op := range ops {
		if op.kind == kindTxn {
			txn, err := w.txn(ctx, op.txn, here)
			if err != nil {
				return nil, err
			}
			out[i] = txntree.Txn(txn)
			continue
		}
		w.name(op.key)
		w.writes = w.writes || op.kind != kindGet
		var (
			sealed *sealedPut
			err    error
		)
		if out[i], sealed, err = w.client.requestOp(ctx, op); err != nil {
			return nil, err
		}
		w.seals = sealed.link(w.seals)
	}
	return out, nil
}

// name notes the first key.
func (w *wireTxn) name(key string) {
	if !w.named {
		w.first, w.named = key, true
	}
}

// readLinearizably adds a read to a transaction that has only conditions. The server
// treats one without operations like one of serializable reads only, and decides its
// conditions on what the member has, however old (server/v3/etcdserver/txn,
// IsTxnSerializable).
func readLinearizably(req *pb.TxnRequest) {
	if len(req.Compare) > 0 && len(req.Success)+len(req.Failure) == 0 {
		// A key that the user may read: a condition is about it.
		req.Success = []*pb.RequestOp{txntree.Range(&pb.RangeRequest{Key: req.Compare[0].Key, CountOnly: true})}
	}
}

// checkLoad refuses a transaction with more operations than the server allows.
func (w *wireTxn) checkLoad(req *pb.TxnRequest) error {
	if n, limit := w.load(req), w.client.cfg.MaxTxnOps; n > limit {
		return fmt.Errorf("%w: %d over all levels, the limit is %d", ErrTooManyOps, n, limit)
	}
	return nil
}

// load returns what the server counts for a transaction: for each level its conditions or
// its longer branch, and for the levels below the largest sum
// (server/v3/etcdserver/api/v3rpc/key.go, checkTxnRequest).
func (w *wireTxn) load(req *pb.TxnRequest) int {
	own := max(len(req.Compare)+len(w.values[req]), len(req.Success), len(req.Failure))
	return own + max(w.loadOf(req.Success), w.loadOf(req.Failure))
}

// loadOf returns the largest load of the transactions in a branch.
func (w *wireTxn) loadOf(ops []*pb.RequestOp) int {
	most := 0
	for _, op := range ops {
		if txn := op.GetRequestTxn(); txn != nil {
			most = max(most, w.load(txn))
		}
	}
	return most
}
