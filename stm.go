package etcd

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

const opTransact = "transact"

// Transact runs f, which reads and writes keys through tx, and applies the writes
// atomically if nothing that f read has changed meanwhile (software transactional memory,
// serializable). Otherwise it runs f again: at once, with what came back with the
// conflict; after a second conflict it starts over, after a random and growing wait. It
// fails with [ErrConflict] after [DefaultTransactAttempts] runs, or when the deadline
// passes. That is the deadline of ctx, or [Config.RequestTimeout] for all runs together.
// For a key with very many writers, [Client.WithLock] makes them take turns.
//
// All reads of one run are at one revision, so f never sees a mixture; it reads back what
// it has written. Each first read of a key or prefix takes one round trip, and the commit
// one. A function that only reads needs no commit: what it has seen was true at one
// moment after Transact was called.
//
// f runs in the caller's goroutine and must have no effects except through tx, since it
// may run several times. If it returns an error, nothing is written and Transact returns
// that error; a panic passes through. If a read fails, the run is void: Transact returns
// the error of the read even if f hides it. A missing key is not a failure.
//
// If the answer of the commit is lost, Transact returns the error (see [MaybeApplied])
// and never runs f on its own result.
//
// [WithResult] returns the revision of the commit, or of the reads if there are no
// writes.
//
// A commit may write up to [Config.MaxTxnOps] keys and read as many, where a prefix
// counts one more than the keys found under it. Above that Transact fails with
// [ErrTooManyOps], and above [Config.MaxRequestBytes] with [ErrTooLarge]; then no commit
// is sent.
func (c *Client) Transact(ctx context.Context, f func(tx *Tx) error, opts ...TransactOption) error {
	o := transactOptions{attempts: DefaultTransactAttempts}
	err := optionsOf(opts, &o, TransactOption.applyTransact)
	switch {
	case err != nil:
	case f == nil:
		err = errNilFunction
	case o.attempts < 1:
		err = fmt.Errorf("%w: %d attempts", ErrInvalidArgument, o.attempts)
	}
	if err == nil {
		err = o.check()
	}
	if err != nil {
		return fail(opTransact, "", err)
	}
	tx := &Tx{client: c, result: o.writeOptions}
	return c.untilUncontested(ctx, request{op: opTransact}, func(ctx context.Context) (bool, error) {
		tx.round = ctx
		tx.forget()
		for n := range triesPerRound {
			committed, err := tx.run(f)
			if committed || err != nil {
				return committed, afterConflicts(ctx, n, err)
			}
			if tx.attempt >= o.attempts {
				return false, answered(opTransact, "", fmt.Errorf("%w: %d attempts; WithLock makes those who write a hot key take turns", ErrConflict, tx.attempt))
			}
		}
		return false, nil
	})
}

// run runs f once and commits its writes. It returns false after a conflict.
func (tx *Tx) run(f func(*Tx) error) (bool, error) {
	tx.begin()
	var cancel context.CancelFunc
	tx.ctx, cancel = context.WithCancel(tx.round)
	defer cancel()
	err := f(tx)
	cancel() // a Tx that f has kept reads nothing any more
	switch {
	case errors.Is(tx.failed, ErrCompacted):
		// The revision of this run was compacted during it; a new one is as good.
		tx.forget()
		return false, nil
	case tx.failed != nil && !errors.Is(err, tx.failed):
		return false, tx.failed
	case err != nil:
		return false, err
	case len(tx.writes) == 0:
		tx.result.tellRevision(tx.revision)
		return true, nil
	}
	return tx.commit()
}

// commit applies the writes if nothing that was read has changed. After a conflict it
// returns false, and the next run begins with what came back.
func (tx *Tx) commit() (bool, error) {
	c, key := tx.client, tx.order[0]
	guards, again := tx.guards()
	if n := max(len(guards), len(tx.order)); n > c.cfg.MaxTxnOps {
		return false, fail(opTransact, key, fmt.Errorf("%w: %d read or written, the limit is %d", ErrTooManyOps, n, c.cfg.MaxTxnOps))
	}
	ops := make([]Op, len(tx.order))
	for i, key := range tx.order {
		ops[i] = tx.writes[key]
	}
	wire, err := c.compileTxn(tx.round, c.Txn().Then(ops...))
	if err != nil {
		return false, fail(opTransact, key, err)
	}
	resp, err := c.sendTxn(tx.round, request{op: opTransact, key: key, write: true, seals: wire.seals, versions: tx.versionOf},
		&pb.TxnRequest{Compare: guards, Success: wire.request.Success, Failure: again})
	if err != nil {
		return false, err
	}
	if resp.Succeeded {
		tx.result.tellRevision(resp.Header.GetRevision())
		return true, nil
	}
	tx.keep(resp, again)
	return false, nil
}

// versionOf returns the version of a stored key that this run has read, or 0.
func (tx *Tx) versionOf(stored []byte) int64 {
	key := tx.client.visible(stored)
	kvs := tx.reads[keys.SpanOf(tx.covering(stored))]
	if i, found := indexOf(kvs, key); found {
		return kvs[i].Version
	}
	return 0
}

// guards returns the conditions that hold if everything that was read is unchanged, and
// the reads that bring it up to date if not.
func (tx *Tx) guards() (compares []*pb.Compare, again []*pb.RequestOp) {
	var guards txntree.Guards
	for at, kvs := range tx.reads {
		read := txntree.Read(at)
		switch {
		case at.End != "":
			guards.NothingNewer(read, tx.revision)
			// A prefix that has grown past what can be committed is not worth waiting
			// for.
			read.Limit = int64(tx.client.cfg.MaxTxnOps)
		case len(kvs) == 0:
			guards.Unchanged(read.Key, 0)
		}
		for _, kv := range kvs {
			guards.Unchanged(tx.client.whole(kv.Key), kv.ModRevision)
		}
		again = append(again, txntree.Range(read))
	}
	return guards.Compares, again
}
