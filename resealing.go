package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// overtake encrypts again what a request has just stored, where another key was promoted
// while it was on its way: a pass of Reencrypt may have gone by before it arrived, and
// the key may be retired by now. Each value is bound to the revision that stored it, so
// that nothing newer is replaced, and keeps its lease.
//
// It returns an error if that failed for a value that the ring does not open any more.
// One that it opens is as if the request had been a moment earlier.
func (c *Client) overtake(ctx context.Context, r request, answer any) error {
	var late []*sealedPut
	for s := r.seals; s != nil; s = s.next {
		if now := c.codec.keyring.current(); !s.isCurrent(now) && now.primary != nil {
			late = append(late, s)
		}
	}
	told, ok := answer.(interface{ GetHeader() *pb.ResponseHeader })
	if len(late) == 0 || !ok {
		return nil
	}
	if txn, ok := answer.(*pb.TxnResponse); ok && !wrote(txn) {
		return nil
	}
	err := c.reseal(ctx, r, late, told.GetHeader().GetRevision())
	if err == nil || !c.codec.lost(late) {
		return nil
	}
	return &Error{Op: r.op, Key: r.key, Sent: true, MaybeApplied: true, Err: withKind(ErrUnknownKey, err)}
}

// wrote reports whether a transaction put anything.
func wrote(txn *pb.TxnResponse) bool {
	for _, op := range txn.Responses {
		if op.GetResponsePut() != nil || op.GetResponseTxn() != nil && wrote(op.GetResponseTxn()) {
			return true
		}
	}
	return false
}

// lost reports whether the ring has no key for any of the values.
func (c *codec) lost(puts []*sealedPut) bool {
	for _, s := range puts {
		if id, encrypted := envelope.KeyIDOf(s.wire.Value); encrypted && c.keyring.current().ring.Lookup(id) == nil {
			return true
		}
	}
	return false
}

// reseal stores values again that were stored at a revision.
func (c *Client) reseal(ctx context.Context, r request, puts []*sealedPut, revision int64) error {
	branches := map[string]int{}
	for s := r.seals; s != nil; s = s.next {
		branches[text(s.wire.Key)]++
	}
	again := request{op: opReencrypt, key: r.key, write: true}
	chunks := c.newChunker(again, chunkOptions{parallel: 1, keys: DefaultChunkKeys}, func(part) {})
	chunks.repeats = true
	return chunks.run(ctx, func(yield func(operation, error) bool) {
		for _, s := range puts {
			stored, key, err := c.codec.seal(ctx, s.wire.Key, s.value)
			if err != nil {
				yield(operation{}, fail(opReencrypt, c.visible(s.wire.Key), err))
				return
			}
			put := &sealedPut{value: s.value, key: key}
			put.wire.Key, put.wire.Value, put.wire.IgnoreLease = s.wire.Key, stored, true
			compare := []*pb.Compare{guard(s.wire.Key, revision)}
			if branches[text(s.wire.Key)] > 1 {
				// Only one of them was taken: what it stored tells which.
				compare = append(compare, storedAs(&s.wire))
			}
			op, err := c.operation(c.visible(s.wire.Key), txnOp(&pb.TxnRequest{
				Compare: compare, Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &put.wire}}},
			}), put)
			if !yield(op, err) || err != nil {
				return
			}
		}
	})
}

// storedAs returns the condition that a key holds just what a put stores.
func storedAs(put *pb.PutRequest) *pb.Compare {
	return &pb.Compare{
		Key: put.Key, Target: pb.Compare_VALUE, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_Value{Value: put.Value},
	}
}
