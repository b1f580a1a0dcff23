package etcd

import (
	"context"
)

// optimistic reads by reads, lets plan make a transaction from the result, and commits
// it. The conditions of the plan must hold as long as what was found is unchanged; if
// they don't hold any more, plan is called again with what is found then. A nil
// transaction means that there is nothing to do. w gets the result.
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
				if found, err = w.met(r, found); err == nil {
					w.tellTxn(found)
				}
				return true, err
			}
			err = afterConflicts(ctx, n, err)
		}
		return false, err
	})
}
