package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Outcome says what became of a write. The zero value is [OutcomeUnknown].
type Outcome int

const (
	// OutcomeUnknown means that the write may have been applied, or may still be.
	OutcomeUnknown Outcome = iota
	// OutcomeApplied means that the write was applied, whatever came after it.
	OutcomeApplied
	// OutcomeNotApplied means that the write was not applied and never will be.
	OutcomeNotApplied
)

// String returns "unknown", "applied" or "not applied".
func (o Outcome) String() string {
	switch o {
	case OutcomeApplied:
		return "applied"
	case OutcomeNotApplied:
		return "not applied"
	default:
		return "unknown"
	}
}

// Settle finds out what became of a write of this client whose answer was lost: err
// is what the write returned. It reads the keys that the write was about, and their
// history as far as the server still has it, and changes nothing.
//
//   - A stored value that was encrypted is like no other, and proves that its write
//     was applied.
//   - A write that was bound to the mod revision of a key that it changes
//     ([Client.CompareAndSwapRevision], [Client.Update], [Client.Transact], a put
//     [WithGuard], with encryption [Client.CompareAndSwap] and others) can't be
//     applied any more after another change of that key.
//
// Everything else stays [OutcomeUnknown], which is no error: the deletion of a key
// that is gone, a value without encryption that another client may have written, a
// request that may still be under way, a lease. Nothing is sent when err says it
// already (see [MaybeApplied]). It takes a round trip for the key, and one for each
// later change of it; after a hundred it gives up.
//
// An err that joins those of several requests has the outcome that all of them have.
//
// The error is nil unless the outcome could not be looked for: of an err that is not
// from this package it is [ErrInvalidArgument]. It is [ErrRevisionRegressed] when the
// cluster was restored from a backup since, as far as that shows: it is at an older
// revision or term than this client has seen. A restore that doesn't show may mislead,
// since revisions come back: restore with etcdutl's --bump-revision.
func (c *Client) Settle(ctx context.Context, err error) (Outcome, error) {
	if bad := c.admit(ctx); bad != nil {
		return OutcomeUnknown, fail(opSettle, "", bad)
	}
	if err == nil {
		return OutcomeApplied, nil
	}
	all := requestErrors(err)
	if len(all) == 0 {
		return OutcomeUnknown, fail(opSettle, "", fmt.Errorf("%w: not an error of a request", ErrInvalidArgument))
	}
	outcome := OutcomeUnknown
	for i, e := range all {
		one, err := c.settle(ctx, e)
		if i == 0 {
			outcome = one
		}
		if one != outcome || err != nil {
			return OutcomeUnknown, err
		}
	}
	return outcome, nil
}

// settle is Settle for the error of one request.
func (c *Client) settle(ctx context.Context, e *Error) (outcome Outcome, err error) {
	switch {
	case !e.MaybeApplied:
		return OutcomeNotApplied, nil
	case e.lost == nil:
		return OutcomeUnknown, nil
	}
	err = c.withDeadline(ctx, opSettle, e.Key, func(ctx context.Context) error {
		for _, w := range e.lost.witnesses {
			found, err := c.testify(ctx, e.Key, w, e.lost.mark)
			if outcome = found.outcome(); outcome != OutcomeUnknown || err != nil {
				return err
			}
		}
		return nil
	})
	return outcome, err
}

const opSettle = "settle"

// lostWrite is what is kept of a write without an answer. It is never printed.
type lostWrite struct {
	witnesses []witness
	mark      mark // of the history that it was made in
}

// lose returns what is kept of a request whose answer was lost. The values are copied:
// the caller's buffers are the caller's again.
func (c *conn) lose(in any, seals *sealedPut) *lostWrite {
	out := &lostWrite{witnesses: witnesses(in, seals), mark: c.seen.mark()}
	for i := range out.witnesses {
		out.witnesses[i].stored = bytes.Clone(out.witnesses[i].stored)
	}
	return out
}

// witness is a key by which a lost write can be told, and how the write would have
// changed it.
type witness struct {
	key     []byte
	deletes bool
	stored  []byte // unless it deletes
	// earlier is what else attempts may have stored: the same value, sealed with an
	// older key.
	earlier [][]byte
	// lease is that of the put; keepsLease says that it leaves the lease that the key
	// has.
	lease      int64
	keepsLease bool
	// since is the mod revision of the key that the whole write was bound to; 0 if
	// it was bound to none.
	since int64
	// creates says that it was bound to the absence of the key.
	creates bool
}

// maxWitnesses bounds what is asked about one write. A branch of a transaction is
// applied as a whole, so that one key speaks for it.
const maxWitnesses = 8

func witnesses(request any, seals *sealedPut) []witness {
	switch req := request.(type) {
	case *pb.PutRequest:
		return []witness{putWitness(req, seals)}
	case *pb.TxnRequest:
		var since map[string]int64
		if !changes(req.Failure) {
			since = boundTo(req.Compare)
		}
		all := branch(branch(nil, req.Success, since, seals), req.Failure, nil, seals)
		return all[:min(len(all), maxWitnesses)]
	}
	return nil
}

func putWitness(put *pb.PutRequest, seals *sealedPut) witness {
	return witness{
		key: put.Key, stored: put.Value, earlier: seals.earlierOf(put),
		lease: put.Lease, keepsLease: put.IgnoreLease,
	}
}

// changes reports whether any of the operations is more than a read.
func changes(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		txn := op.GetRequestTxn()
		if txn == nil && op.GetRequestRange() == nil || changes(txn.GetSuccess()) || changes(txn.GetFailure()) {
			return true
		}
	}
	return false
}

// boundTo returns the mod revisions that compares demand of keys that exist.
func boundTo(compares []*pb.Compare) map[string]int64 {
	out := map[string]int64{}
	for _, cmp := range compares {
		if cmp.Target == pb.Compare_MOD && cmp.Result == pb.Compare_EQUAL && cmp.RangeEnd == nil {
			out[string(cmp.Key)] = cmp.GetModRevision()
		}
	}
	return out
}

// branch appends the witnesses of a branch of a transaction: its first put, which can
// prove that it was applied, its first bound change, which can prove that it was not,
// and those of the transactions in it.
func branch(out []witness, ops []*pb.RequestOp, since map[string]int64, seals *sealedPut) []witness {
	var put, bound *witness
	for _, op := range ops {
		var w witness
		switch r := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			w = putWitness(r.RequestPut, seals)
		case *pb.RequestOp_RequestDeleteRange:
			w = witness{key: r.RequestDeleteRange.Key, deletes: true}
		case *pb.RequestOp_RequestTxn:
			if len(out) < maxWitnesses {
				out = branch(branch(out, r.RequestTxn.Success, nil, seals), r.RequestTxn.Failure, nil, seals)
			}
			continue
		default:
			continue
		}
		w.since = since[string(w.key)]
		if put == nil && !w.deletes {
			put = &w
		}
		if bound == nil && w.since > 0 {
			bound = &w
		}
	}
	if put != nil {
		out = append(out, *put)
	}
	if bound != nil && bound != put {
		out = append(out, *bound)
	}
	return out
}

// made reports whether the write makes kv what it is. before is the version before it,
// nil for none.
func (w *witness) made(kv, before *mvccpb.KeyValue) bool {
	lease := w.lease
	if w.keepsLease {
		lease = before.GetLease()
	}
	return kv.Lease == lease && w.wrote(kv.Value)
}

// wrote reports whether the write makes a stored value what it is.
func (w *witness) wrote(stored []byte) bool {
	is := func(sent []byte) bool { return bytes.Equal(stored, sent) }
	return !w.deletes && (is(w.stored) || slices.ContainsFunc(w.earlier, is))
}

// testimony is what the history of a witness says about a lost write.
type testimony struct {
	// applied tells that the write itself was found.
	applied bool
	// revision is that of the change that is the write's, or just like it.
	revision int64
	// changed tells that the first change after the revision that the write was
	// bound to is known; same, that the first change or the creation is just what
	// the write would have made.
	changed, same bool
}

func (t testimony) outcome() Outcome {
	switch {
	case t.applied:
		return OutcomeApplied
	case t.changed && !t.same:
		return OutcomeNotApplied
	default:
		return OutcomeUnknown
	}
}

// testify looks through the history of a witness, which goes on from a mark. If it does
// not, it is another one: nothing can be told from revisions.
func (c *Client) testify(ctx context.Context, key string, w witness, from mark) (testimony, error) {
	unique := !w.deletes && c.codec.unique(w.key, w.stored)
	if !unique && w.since == 0 && !w.creates {
		return testimony{}, nil // no history could tell
	}
	var next *mvccpb.KeyValue // the change after the one that is looked at
	for kv, err := range c.history(ctx, key, w.key, from) {
		switch {
		case err != nil:
			return testimony{}, err
		case kv.ModRevision == w.since:
			if next == nil {
				return testimony{}, nil
			}
			return testimony{changed: true, same: w.made(next, kv), revision: next.ModRevision}, nil
		case unique && w.wrote(kv.Value):
			return testimony{applied: true, revision: kv.ModRevision}, nil
		case w.creates && kv.Version == 1:
			return testimony{same: w.made(kv, nil), revision: kv.ModRevision}, nil
		}
		next = kv
	}
	return testimony{}, nil
}

// maxHistory bounds the versions of a key that are read.
const maxHistory = 100

// history yields the versions of a key, the newest first, back to its creation, its
// compaction or maxHistory.
func (c *Client) history(ctx context.Context, key string, stored []byte, from mark) iter.Seq2[*mvccpb.KeyValue, error] {
	return func(yield func(*mvccpb.KeyValue, error) bool) {
		req := &pb.RangeRequest{Key: stored}
		for range maxHistory {
			resp, err := do(ctx, c.conn, request{op: opSettle, key: key, pinned: req.Revision > 0}, c.rpc.get, req)
			switch {
			case errors.Is(err, ErrCompacted):
				return
			case err != nil:
				yield(nil, err)
				return
			case !from.precedes(resp.Header):
				yield(nil, answered(opSettle, key, ErrRevisionRegressed))
				return
			case len(resp.Kvs) == 0:
				return
			}
			kv := resp.Kvs[0]
			if !yield(kv, nil) || kv.Version == 1 {
				return
			}
			req = &pb.RangeRequest{Key: stored, Revision: kv.ModRevision - 1}
		}
	}
}
