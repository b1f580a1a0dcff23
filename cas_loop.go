package etcd

import (
	"context"
)

// optimistic reads by reads, has plan make a transaction of what was found, and
// commits it. The conditions of the plan have to hold as long as what was found does;
// if they don't any more, plan is called again with what is found then. A nil
// transaction means that nothing is to be done. w is told what became of it.
func (c *Client) optimistic(ctx context.Context, r request, w writeOptions, reads []Op, plan func(found *TxnResult) (*Txn, error)) error {
	return c.untilUncontested(ctx, r, func(ctx context.Context) (bool, error) {
		found, err := c.commit(ctx, r, c.Txn().Then(reads...))
		for n := 0; err == nil && n < triesPerRound; n++ {
			var txn *Txn
			if txn, err = plan(found); err != nil {
				return true, err
			}
			if txn == nil {
				w.tellRevision(found.Revision)
				return true, nil
			}
			if c.codec.encrypts() {
				read := found
				txn.versions = func(stored []byte) int64 {
					kv, _ := read.KV(c.visible(stored))
					return kv.Version
				}
			}
			found, err = c.commit(ctx, r, txn.Else(reads...))
			if err == nil && found.Succeeded {
				w.tellTxn(found)
				return true, nil
			}
			err = afterConflicts(ctx, n, err)
		}
		return false, err
	})
}
