package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Txn is a transaction: if all conditions hold, the operations of Then are
// applied, else those of Else, atomically and in one revision. Make one with
// [Client.Txn]; the zero value is refused. It is not safe for concurrent use; a
// call of a method twice adds to what the first call gave.
//
// Transactions nest: [OpTxn] makes one an operation of another.
//
// Where values are encrypted, a transaction whose conditions don't hold, because of a
// change that this client hasn't seen, may take further reads: as a rule one or two, and
// at most about 20 for each transaction in it. They find out whether that change is its
// own, executed before by a proxy which has sent the request twice. This holds for every write of [Client] that is bound to what a key was, such
// as [Client.CompareAndSwap] and [Client.PutIfNotExists], on top of the round trips
// that it states.
type Txn struct {
	client     *Client
	conditions []Condition
	then, els  []Op
	versions   func(stored []byte) int64 // see request
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
	return t.client.commit(ctx, op, "", t)
}

// commit is Commit for an operation of another name. An empty key stands for the
// first one of the transaction.
func (c *Client) commit(ctx context.Context, op, key string, t *Txn) (*TxnResult, error) {
	wire, err := c.compileTxn(ctx, t)
	if key == "" {
		key = wire.first
	}
	if err != nil {
		return nil, fail(op, key, err)
	}
	r := request{op: op, key: key, write: wire.writes, seals: wire.seals, versions: t.versions}
	if len(wire.values) > 0 {
		if err := wire.checkGuarded(); err != nil {
			return nil, fail(op, key, err)
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

// sendTxn checks and sends a transaction.
func (c *Client) sendTxn(ctx context.Context, r request, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := c.checkSize(req); err != nil {
		return nil, fail(r.op, r.key, err)
	}
	from := c.seen.mark()
	resp, err := do(ctx, c.conn, r, c.rpc.txn, req)
	if err == nil && r.write && c.codec.encrypts() {
		resp, err = c.unreplayed(ctx, r, req, resp, from)
	}
	if err == nil && r.seals != nil && wrote(resp) {
		err = c.overtake(ctx, r, resp.Header.GetRevision())
	}
	return resp, err
}
