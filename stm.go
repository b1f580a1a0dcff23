package etcd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// maxTransactAttempts bounds how often [Client.Transact] runs its function.
const maxTransactAttempts = 100

// Transact runs f, which reads and writes keys through tx, and applies the writes
// atomically if nothing that f has read has changed meanwhile (software
// transactional memory, serializable). Otherwise it runs f again, after a growing
// random wait, up to 100 times or until ctx ends; then it fails with
// [ErrConflict].
//
// All reads of one run are of one revision, so that f never sees a mixture; what
// it has written it reads back. It takes one round trip for each first read of a
// key or prefix and one for the commit; after a conflict the keys that were read
// come back with the answer. A function that only reads needs no commit.
//
// f runs in the caller's goroutine and must have no effects besides tx, since it
// may run several times. When it returns an error, nothing is written and Transact
// returns that error; a panic passes through. When the answer of the commit is
// lost, Transact returns the error (see [MaybeApplied]) and never runs f on its
// own result.
//
// One transaction can read and write as many keys as the server's limit of
// operations says, 128 by default, and fails with [ErrTooManyOps] above it.
func (c *Client) Transact(ctx context.Context, f func(tx *Tx) error) error {
	const op = "transact"
	return c.withDeadline(ctx, op, "", func(ctx context.Context) error {
		tx := &Tx{client: c, ctx: ctx}
		for attempt := 1; ; attempt++ {
			tx.begin(attempt)
			if err := f(tx); err != nil {
				return err
			}
			if tx.failed != nil { // f hid the error of a read: its result is void
				return tx.failed
			}
			committed, err := tx.commit(op)
			if err != nil || committed {
				return err
			}
			if attempt == maxTransactAttempts {
				return &Error{Op: op, Sent: true, Err: fmt.Errorf("%w: %d attempts", ErrConflict, attempt)}
			}
			if !pause(ctx, c.closing, backoff(min(attempt, conflictBackoff))) {
				return &Error{Op: op, Sent: true, Err: withKind(ErrConflict, context.Cause(ctx))}
			}
		}
	})
}

// conflictBackoff keeps the wait after a conflict below that after a failure: the
// other transaction is over by then.
const conflictBackoff = 3

// Tx is one run of the function of [Client.Transact]. It is not safe for
// concurrent use, and not usable after the function has returned.
type Tx struct {
	client  *Client
	ctx     context.Context
	attempt int
	failed  error

	// revision is that of all reads; 0 before the first.
	revision int64
	reads    map[string]*mvccpb.KeyValue // nil for a missing key; by key as stored
	prefixes map[string][]string         // the keys found, as stored; by prefix
	writes   map[string]Op               // by key
	order    []string                    // keys of writes, in the order of the first
	// fresh are the values that came back with a conflict, at freshRevision.
	fresh         map[string]*mvccpb.KeyValue
	freshRevision int64
}

func (tx *Tx) begin(attempt int) {
	tx.attempt = attempt
	tx.reads = map[string]*mvccpb.KeyValue{}
	tx.prefixes = map[string][]string{}
	tx.writes = map[string]Op{}
	tx.order = nil
	tx.revision = tx.freshRevision
}

// Attempt returns which run this is, from 1: one more than the conflicts so far.
func (tx *Tx) Attempt() int { return tx.attempt }

// Context returns the context of the transaction.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Get returns the value of key, or [ErrKeyNotFound].
func (tx *Tx) Get(key string) ([]byte, error) {
	const op = "transact"
	if w, ok := tx.writes[key]; ok {
		if w.kind == opDelete {
			return nil, fail(op, key, ErrKeyNotFound)
		}
		return append([]byte{}, w.value...), nil
	}
	kv, err := tx.read(key)
	if err != nil {
		return nil, tx.fail(err)
	}
	if kv == nil {
		return nil, &Error{Op: op, Key: key, Sent: true, Err: ErrKeyNotFound}
	}
	value, err := tx.value(kv)
	if err != nil {
		return nil, tx.fail(answered(op, key, err))
	}
	return value, nil
}

// value decodes a copy: what was read may be read again.
func (tx *Tx) value(kv *mvccpb.KeyValue) ([]byte, error) {
	out, err := tx.client.codec.decode(tx.ctx, kv.Key, slices.Clone(kv.Value))
	if err != nil {
		return nil, &DecodeError{Key: tx.client.visible(kv.Key), Err: err}
	}
	return out, nil
}

// fail notes the error of a read that f may not have seen as one.
func (tx *Tx) fail(err error) error {
	if tx.failed == nil {
		tx.failed = err
	}
	return err
}

// read returns the key-value of key at the revision of this run; nil if missing.
func (tx *Tx) read(key string) (*mvccpb.KeyValue, error) {
	stored, err := tx.client.stored(key)
	if err != nil {
		return nil, fail("transact", key, err)
	}
	if kv, ok := tx.reads[string(stored)]; ok {
		return kv, nil
	}
	if kv, ok := tx.fresh[string(stored)]; ok {
		tx.reads[string(stored)] = kv
		return kv, nil
	}
	kvs, err := tx.fetch(key, keyRange{start: stored})
	if err != nil {
		return nil, err
	}
	var kv *mvccpb.KeyValue
	if len(kvs) > 0 {
		kv = kvs[0]
	}
	tx.reads[string(stored)] = kv
	return kv, nil
}

// fetch reads keys at the revision of this run, which the first read determines.
func (tx *Tx) fetch(key string, keys keyRange) ([]*mvccpb.KeyValue, error) {
	r := request{op: "transact", key: key}
	pages := tx.client.newPager(r, keys, pagerOptions{getOptions: getOptions{revision: tx.revision}, pinned: true})
	var out []*mvccpb.KeyValue
	for pages.more() {
		kvs, err := pages.read(tx.ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, kvs...)
	}
	if tx.revision == 0 {
		tx.revision = pages.revision
	}
	return out, nil
}

// GetPrefix returns the key-values that begin with prefix, in the order of the
// keys. The commit fails if one of them was changed or deleted, or a new one was
// created.
func (tx *Tx) GetPrefix(prefix string) ([]KeyValue, error) {
	const op = "transact"
	keys, err := tx.client.prefixRange(prefix)
	if err != nil {
		return nil, fail(op, prefix, err)
	}
	found, ok := tx.prefixes[prefix]
	if !ok {
		kvs, err := tx.fetch(prefix, keys)
		if err != nil {
			return nil, tx.fail(err)
		}
		for _, kv := range kvs {
			tx.reads[string(kv.Key)] = kv
			found = append(found, string(kv.Key))
		}
		tx.prefixes[prefix] = found
	}
	return tx.merged(prefix, found)
}

// merged returns what was found under a prefix with the writes of this run.
func (tx *Tx) merged(prefix string, found []string) ([]KeyValue, error) {
	var out []KeyValue
	for _, stored := range found {
		kv := tx.reads[stored]
		if kv == nil {
			continue
		}
		if _, written := tx.writes[tx.client.visible(kv.Key)]; written {
			continue
		}
		value, err := tx.value(kv)
		if err != nil {
			return nil, tx.fail(answered("transact", prefix, err))
		}
		converted, _ := tx.client.keyValue(tx.ctx, kv, true)
		converted.Value = value
		out = append(out, converted)
	}
	for key, w := range tx.writes {
		if w.kind == opPut && strings.HasPrefix(key, prefix) {
			out = append(out, KeyValue{Key: key, Value: append([]byte{}, w.value...), Lease: w.put.lease})
		}
	}
	slices.SortFunc(out, func(a, b KeyValue) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// Put stores value under key when the transaction is committed. The value is
// copied. It reads nothing: without a Get of the key the write is unconditional.
func (tx *Tx) Put(key string, value []byte, opts ...PutOption) {
	tx.write(OpPut(key, append([]byte{}, value...), opts...))
}

// Delete deletes key when the transaction is committed.
func (tx *Tx) Delete(key string) { tx.write(OpDelete(key)) }

func (tx *Tx) write(op Op) {
	if _, again := tx.writes[op.key]; !again {
		tx.order = append(tx.order, op.key)
	}
	tx.writes[op.key] = op
}

// commit applies the writes if nothing has changed that was read. After a conflict
// it keeps the values that came back for the next run.
func (tx *Tx) commit(op string) (bool, error) {
	c := tx.client
	if len(tx.writes) == 0 {
		return true, nil
	}
	ops := make([]Op, len(tx.order))
	for i, key := range tx.order {
		ops[i] = tx.writes[key]
	}
	var writes bool
	success, err := c.requestOps(ops, &writes)
	if err != nil {
		return false, fail(op, "", err)
	}
	guards, again, err := tx.guards()
	if err != nil {
		return false, fail(op, "", err)
	}
	if n := max(len(guards), len(success)); n > c.cfg.MaxTxnOps {
		return false, fail(op, "", fmt.Errorf("%w: %d read or written, the limit is %d", ErrTooManyOps, n, c.cfg.MaxTxnOps))
	}
	resp, err := c.sendTxn(tx.ctx, request{op: op, key: tx.order[0], write: true}, &pb.TxnRequest{Compare: guards, Success: success, Failure: again})
	if err != nil {
		return false, err
	}
	if resp.Succeeded {
		return true, nil
	}
	tx.keep(resp, again)
	return false, nil
}

// guards returns the conditions under which everything that was read is still so,
// and the reads that bring the keys up to date if it is not.
func (tx *Tx) guards() (guards []*pb.Compare, again []*pb.RequestOp, err error) {
	for stored, kv := range tx.reads {
		guards = append(guards, &pb.Compare{
			Key: []byte(stored), Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: kv.GetModRevision()},
		})
		again = append(again, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(stored)}}})
	}
	// The guard of each key above notices its change and its deletion; that of
	// the range notices what is new. The server's comparison of a range sees the
	// keys that are there, not the deletions.
	for prefix := range tx.prefixes {
		keys, err := tx.client.prefixRange(prefix)
		if err != nil {
			return nil, nil, err
		}
		guards = append(guards, &pb.Compare{
			Key: keys.start, RangeEnd: keys.end, Target: pb.Compare_MOD, Result: pb.Compare_LESS,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: tx.revision + 1},
		})
	}
	return guards, again, nil
}

// keep notes what came back with a conflict: the next run reads it at the
// revision of the answer.
func (tx *Tx) keep(resp *pb.TxnResponse, again []*pb.RequestOp) {
	tx.fresh = make(map[string]*mvccpb.KeyValue, len(again))
	tx.freshRevision = resp.Header.GetRevision()
	for i, op := range again {
		var kv *mvccpb.KeyValue
		if kvs := resp.Responses[i].GetResponseRange().GetKvs(); len(kvs) > 0 {
			kv = kvs[0]
		}
		tx.fresh[string(op.GetRequestRange().Key)] = kv
	}
}
