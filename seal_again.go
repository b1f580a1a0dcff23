package etcd

import (
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/envelope"
	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// put sends a put by do.
func (c *Client) put(ctx context.Context, r request, req *pb.PutRequest) (*pb.PutResponse, error) {
	resp, err := do(ctx, c.conn, r, c.rpc.Put, req)
	if err == nil && r.seals != nil {
		err = c.overtake(ctx, r, resp.Header.GetRevision())
	}
	return resp, err
}

// isLate reports whether what was stored may be encrypted with a key other than the
// primary.
func (s *sealedPut) isLate(now *keySet) bool {
	return now.primary != nil && (len(s.earlier) > 0 || !s.isCurrent(now))
}

// overtake encrypts again what a request stored at a revision, if another key was
// promoted while the request was on its way: a pass of Reencrypt may have gone by before
// it arrived, and the older key may be retired by now. Each value is bound to the
// revision that stored it, so that nothing newer is replaced, and keeps its lease.
//
// It returns an error if that failed for a value that the ring no longer opens. If the
// ring still opens it, the result is as if the request had come a moment earlier.
func (c *Client) overtake(ctx context.Context, r request, revision int64) error {
	var late []*sealedPut
	for s := r.seals; s != nil; s = s.next {
		if s.isLate(c.codec.keyring.current()) {
			late = append(late, s)
		}
	}
	if len(late) == 0 {
		return nil
	}
	return c.encryptAgain(ctx, r, late, revision)
}

// encryptAgain is overtake for some puts of a request that were stored at a revision.
func (c *Client) encryptAgain(ctx context.Context, r request, late []*sealedPut, revision int64) error {
	err := c.reseal(ctx, r, late, revision)
	if err == nil || !c.codec.lost(late) {
		return nil
	}
	return r.unsettled(errs.WithKind(ErrUnknownKey, err))
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

// lost reports whether the ring lacks the key of something that may have been stored.
func (c *codec) lost(puts []*sealedPut) bool {
	ring := c.keyring.current().ring
	unknown := func(stored []byte) bool {
		id, encrypted := envelope.KeyIDOf(stored)
		return encrypted && ring.Lookup(id) == nil
	}
	return slices.ContainsFunc(puts, func(s *sealedPut) bool {
		return unknown(s.wire.Value) || slices.ContainsFunc(s.earlier, unknown)
	})
}

// reseal stores those values again that were stored at a revision.
func (c *Client) reseal(ctx context.Context, r request, puts []*sealedPut, revision int64) error {
	branches := map[string]int{}
	for s := r.seals; s != nil; s = s.next {
		branches[keys.Text(s.wire.Key)]++
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
			put := &sealedPut{codec: c.codec, value: s.value, key: key}
			put.wire.Key, put.wire.Value, put.wire.IgnoreLease = s.wire.Key, stored, true
			compare := []*pb.Compare{txntree.Unchanged(s.wire.Key, revision)}
			if branches[keys.Text(s.wire.Key)] > 1 {
				// Only one of them was executed: what it stored shows which.
				compare = append(compare, storedAs(&s.wire))
			}
			op, err := c.operation(c.visible(s.wire.Key), txntree.Txn(&pb.TxnRequest{
				Compare: compare, Success: []*pb.RequestOp{txntree.Put(&put.wire)},
			}), put)
			if !yield(op, err) || err != nil {
				return
			}
		}
	})
}

// storedAs returns the condition that a key holds exactly what a put stores.
func storedAs(put *pb.PutRequest) *pb.Compare {
	return &pb.Compare{
		Key: put.Key, Target: pb.Compare_VALUE, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_Value{Value: put.Value},
	}
}

const opReencrypt = "reencrypt"
