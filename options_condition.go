package etcd

import (
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// ConditionOption is an option for calls that write: [WithCondition].
type ConditionOption interface {
	PutOption
	DeleteOption
	DeletePrefixOption
	UpdateOption
	TransactOption
	BulkPutOption
	BulkDeleteOption
	LoadOption
}

// WithCondition binds a write to conditions, in the same transaction: it is applied if all of
// them hold at that moment, and fails with [ErrConditionFailed] otherwise, certainly not
// applied. A call that has nothing to write, such as [Client.PutIfChanged] of an equal value,
// asks for no condition. A call whose transaction is tried again, such as [Client.Update], is
// bound at each try; one that works in chunks ([InChunks], [Client.BulkLoad]) is bound for each
// chunk: after one has failed no further chunk begins, and those under way may be applied.
// Options add up.
//
// It takes no further round trip, but for a condition on a value that is encrypted or
// compressed, which takes one as in [Txn.Commit], and for conditions that don't hold with
// encryption (see [Txn]). Bulk calls, [Client.DeletePrefix] and [Client.Transact] refuse
// conditions on such values with [ErrInvalidArgument]: bind them to a revision or, in
// Transact, read the value. WithCondition is refused together with [WithGuard] and in the
// operations of a [Txn], which has [Txn.If].
func WithCondition(conditions ...Condition) ConditionOption {
	return conditionOption(slices.Clone(conditions))
}

type conditionOption []Condition

func (c conditionOption) apply(o *writeOptions) {
	o.conditions = append(o.conditions, c...)
}

func (c conditionOption) applyBulkDelete(o *bulkOptions) { c.apply(&o.put.writeOptions) }

func (c conditionOption) applyBulkPut(o *bulkOptions) { c.apply(&o.put.writeOptions) }

func (c conditionOption) applyDelete(o *deleteOptions) { c.apply(&o.writeOptions) }

func (c conditionOption) applyDeletePrefix(o *deleteOptions) { c.apply(&o.writeOptions) }

func (c conditionOption) applyLoad(o *bulkOptions) { c.apply(&o.put.writeOptions) }

func (c conditionOption) applyPut(o *putOptions) { c.apply(&o.writeOptions) }

func (c conditionOption) applyTransact(o *transactOptions) { c.apply(&o.writeOptions) }

func (c conditionOption) applyUpdate(o *writeOptions) { c.apply(o) }

// under returns op so that it is applied if the conditions of the call hold.
func (o writeOptions) under(c *Client, op Op) Op {
	if len(o.conditions) == 0 {
		return op
	}
	return OpTxn(c.Txn().If(o.conditions...).Then(op))
}

// met returns the outcome of an operation that under has made, if it was committed, or
// ErrConditionFailed.
func (o writeOptions) met(r request, found *TxnResult) (*TxnResult, error) {
	if len(o.conditions) == 0 || !found.Succeeded {
		return found, nil
	}
	inner := found.Results[0].Txn
	if !inner.Succeeded {
		return nil, r.answered(ErrConditionFailed)
	}
	return inner, nil
}

// compares returns the conditions for a transaction that only the server decides.
func (o writeOptions) compares(c *Client) ([]*pb.Compare, error) {
	var out []*pb.Compare
	for _, cond := range o.conditions {
		compare, err := c.compare(cond)
		if err == nil && !c.serverDecides(cond) {
			err = fmt.Errorf("%w: condition on the value of %q, which the server can't see", ErrInvalidArgument, cond.key)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, compare)
	}
	return out, nil
}
