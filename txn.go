package etcd

// Txn is a transaction: if all conditions hold, the operations of Then are applied,
// otherwise those of Else, atomically and in one revision. Make one with [Client.Txn];
// the zero value is refused. It is not safe for concurrent use; calling a method twice
// adds to what the first call gave.
//
// Transactions nest: [OpTxn] makes one an operation of another.
//
// With encryption, a transaction whose conditions don't hold, because of a change that
// this client hasn't seen, may take further reads: usually one or two, and at most about
// 20 for each transaction in it. They find out whether the change is its own, made
// because a proxy sent the request twice. This applies to every write of [Client] that is
// bound to a key's former state, such as [Client.CompareAndSwap] and
// [Client.PutIfNotExists], in addition to the round trips that it states.
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

// Then adds operations to apply if all conditions hold.
func (t *Txn) Then(ops ...Op) *Txn {
	t.then = append(t.then, ops...)
	return t
}

// Else adds operations to apply if a condition does not hold.
func (t *Txn) Else(ops ...Op) *Txn {
	t.els = append(t.els, ops...)
	return t
}
