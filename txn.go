package etcd

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
