package etcd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// Tx is what the function of [Client.Transact] reads and writes through. It is not
// safe for concurrent use, and not usable after the function has returned.
type Tx struct {
	client  *Client
	result  writeOptions
	ctx     context.Context // of the run
	round   context.Context // of the runs between two pauses, and of their commits
	attempt int
	failed  error // of the first read that failed in this run

	// revision is the revision of all reads of this run; 0 before the first.
	revision int64
	reads    map[keys.Span][]KeyValue
	// known is what came back with the last conflict, at revision.
	known  map[keys.Span][]*mvccpb.KeyValue
	writes map[string]Op // by key
	order  []string      // keys of writes, in the order of their first write
}

// begin prepares for a run.
func (tx *Tx) begin() {
	tx.attempt++
	tx.failed = nil
	tx.reads, tx.writes, tx.order = map[keys.Span][]KeyValue{}, map[string]Op{}, nil
}

// forget makes the next run read anew.
func (tx *Tx) forget() { tx.known, tx.revision = nil, 0 }

// keep makes the next run begin with what came back with a conflict, all of it at the
// revision of the answer.
func (tx *Tx) keep(resp *pb.TxnResponse, again []*pb.RequestOp) {
	tx.known = make(map[keys.Span][]*mvccpb.KeyValue, len(again))
	tx.revision = resp.Header.GetRevision()
	for i, op := range again {
		read, found := op.GetRequestRange(), resp.Responses[i].GetResponseRange()
		if !found.GetMore() {
			tx.known[keys.SpanOf(keys.Range{Start: read.Key, End: read.RangeEnd})] = found.GetKvs()
		}
	}
}

// Attempt returns the number of this run, from 1: one more than the conflicts so far.
func (tx *Tx) Attempt() int { return tx.attempt }

// Context returns the context of this run, with the deadline of the transaction. It ends
// when the function returns.
func (tx *Tx) Context() context.Context { return tx.ctx }

// Get returns the value of key, or [ErrKeyNotFound]. The caller owns the value.
func (tx *Tx) Get(key string) ([]byte, error) {
	if w, ok := tx.writes[key]; ok {
		if w.kind == kindDelete {
			return nil, fail(opTransact, key, ErrKeyNotFound)
		}
		return bytesOf(w.value), nil
	}
	stored, err := tx.client.stored(key)
	if err != nil {
		return nil, tx.stop(fail(opTransact, key, err))
	}
	kvs, err := tx.read(key, tx.covering(stored))
	if err != nil {
		return nil, err
	}
	i, found := indexOf(kvs, key)
	if !found {
		return nil, answered(opTransact, key, ErrKeyNotFound)
	}
	return bytesOf(kvs[i].Value), nil
}

// GetPrefix returns the key-values that begin with prefix, in the order of the keys. One
// that this run has written only has a key and a value. The commit fails if one of them
// is changed or deleted, or another one created. The empty prefix means all keys. The
// caller owns the values.
func (tx *Tx) GetPrefix(prefix string) ([]KeyValue, error) {
	rng, err := tx.client.prefixRange(prefix)
	if err != nil {
		return nil, tx.stop(fail(opTransact, prefix, err))
	}
	kvs, err := tx.read(prefix, rng)
	if err != nil {
		return nil, err
	}
	out := make([]KeyValue, 0, len(kvs))
	for _, kv := range kvs {
		if _, written := tx.writes[kv.Key]; !written {
			kv.Value = bytesOf(kv.Value)
			out = append(out, kv)
		}
	}
	for key, w := range tx.writes {
		if w.kind == kindPut && strings.HasPrefix(key, prefix) {
			out = append(out, KeyValue{Key: key, Value: bytesOf(w.value)})
		}
	}
	slices.SortFunc(out, func(a, b KeyValue) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// indexOf returns the index of a key in key-values that are in the order of the keys.
func indexOf(kvs []KeyValue, key string) (int, bool) {
	return slices.BinarySearchFunc(kvs, key, func(kv KeyValue, key string) int { return strings.Compare(kv.Key, key) })
}

// bytesOf returns a copy that is never nil.
func bytesOf(b []byte) []byte { return append([]byte{}, b...) }

// covering returns what to read for a stored key: a prefix that this run has read
// already, or else the key alone.
func (tx *Tx) covering(stored []byte) keys.Range {
	for at := range tx.reads {
		r := keys.Range{Start: []byte(at.Start), End: []byte(at.End)}
		if at.End != "" && r.Contains(stored) {
			return r
		}
	}
	return keys.Range{Start: stored}
}

// read returns the key-values of a range at the revision of this run, in the order of the
// keys.
func (tx *Tx) read(key string, rng keys.Range) ([]KeyValue, error) {
	at := keys.SpanOf(rng)
	if kvs, ok := tx.reads[at]; ok {
		return kvs, nil
	}
	found, ok := tx.known[at]
	if !ok {
		var err error
		if found, err = tx.fetch(key, rng); err != nil {
			return nil, tx.stop(err)
		}
	}
	if rng.End != nil {
		found = withoutClaims(found)
	}
	kvs, err := tx.client.keyValues(tx.ctx, found)
	if err != nil {
		return nil, tx.stop(answered(opTransact, key, err))
	}
	tx.reads[at] = kvs
	return kvs, nil
}

// fetch asks the server. The first answer determines the revision of this run.
func (tx *Tx) fetch(key string, rng keys.Range) ([]*mvccpb.KeyValue, error) {
	r := request{op: opTransact, key: key}
	pages := tx.client.newPager(r, rng, pagerOptions{getOptions: getOptions{revision: tx.revision}, pinned: true})
	out, err := pages.all(tx.ctx)
	if err == nil && tx.revision == 0 {
		tx.revision = pages.revision
	}
	return out, err
}

// stop records the error of a read, since the function may hide it.
func (tx *Tx) stop(err error) error {
	if tx.failed == nil {
		tx.failed = err
	}
	return err
}

// Put stores value under key when the transaction is committed. It copies the value. It
// reads nothing: without a read of the key the write is unconditional. Transact returns
// an error if the arguments are wrong.
func (tx *Tx) Put(key string, value []byte, opts ...PutOption) {
	op := OpPut(key, bytesOf(value), opts...)
	if op.bad == nil && op.put.prevKV {
		op.bad = fmt.Errorf("%w: WithPrevKV in a transaction that can read", ErrInvalidArgument)
	}
	tx.write(op)
}

// Delete deletes key when the transaction is committed. Like [Tx.Put] it reads nothing; a
// missing key is no error.
func (tx *Tx) Delete(key string) { tx.write(OpDelete(key)) }

// write replaces an earlier write of the key: one transaction changes a key only once.
func (tx *Tx) write(op Op) {
	if _, again := tx.writes[op.key]; !again {
		tx.order = append(tx.order, op.key)
	}
	tx.writes[op.key] = op
}
