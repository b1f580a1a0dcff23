package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/rpc"
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

// Settle finds out what became of a write of this client whose answer was lost; err is
// what the write returned. It reads the keys that the write was about, and their history
// as far as the server still has it, and changes nothing.
//
//   - An encrypted stored value is unique, and proves that its write was applied.
//   - A write that was bound to the mod revision of a key that it changes
//     ([Client.CompareAndSwapRevision], [Client.Update], [Client.Transact], a put
//     [WithGuard], with encryption [Client.CompareAndSwap] and others) can't be applied
//     any more once that key has changed again.
//
// Everything else stays [OutcomeUnknown], which is no error: the deletion of a key that
// is gone, an unencrypted value that another client may have written, a request that may
// still be under way, a lease. Nothing is sent when err already gives the answer (see
// [MaybeApplied]). It takes a round trip for the key, and one for each later change of
// it; after a hundred it gives up.
//
// For an err that joins the errors of several requests, the outcome is the one that all
// of them share, or else OutcomeUnknown.
//
// The error is nil unless the outcome could not be looked for. It is [ErrInvalidArgument]
// for an err that is not from this package, and [ErrRevisionRegressed] when the cluster
// was restored from a backup since, as far as that shows: it is at an older revision or
// term than this client has seen. A restore that doesn't show may mislead, since
// revisions come back: restore with etcdutl's --bump-revision.
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
	err = c.withDeadline(ctx, request{op: opSettle, key: e.Key}, func(ctx context.Context) error {
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

// testimony is what the history of a witness reveals about a lost write.
type testimony struct {
	// applied reports whether the write itself was found.
	applied bool
	// revision is the revision of the write's change, or of one just like it.
	revision int64
	// changed reports whether the first change after the revision that the write was
	// bound to is known; same, whether the first change or the creation is exactly what
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

// testify looks through the history of a witness. If that doesn't go on from the mark, it
// is another history, and revisions prove nothing.
func (c *Client) testify(ctx context.Context, key string, w witness, from rpc.Mark) (testimony, error) {
	unique := !w.deletes && c.codec.unique(w.key, w.stored)
	if !unique && w.since == 0 && !w.creates {
		return testimony{}, nil // no history could prove anything
	}
	var next *mvccpb.KeyValue // the change after kv
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

// maxHistory bounds how many versions of a key are read.
const maxHistory = 100

// history yields the versions of a key, newest first, back to its creation, its
// compaction or maxHistory versions.
func (c *Client) history(ctx context.Context, key string, stored []byte, from rpc.Mark) iter.Seq2[*mvccpb.KeyValue, error] {
	return func(yield func(*mvccpb.KeyValue, error) bool) {
		req := &pb.RangeRequest{Key: stored}
		for range maxHistory {
			resp, err := do(ctx, c.conn, request{op: opSettle, key: key, pinned: req.Revision > 0}, c.rpc.Get, req)
			switch {
			case errors.Is(err, ErrCompacted):
				return
			case err != nil:
				yield(nil, err)
				return
			case !from.Precedes(resp.Header):
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
