package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// BulkError is the error of a bulk call [InChunks] whose keys, values and options are
// valid, even if nothing was sent, for example because the context had ended. It says
// what became of each key. Every key is in exactly one of its lists, in the order of the
// call.
//
// To go on after a failure, make the call again with the [BulkError.Remaining] keys:
//
//	err := client.BulkPut(ctx, kvs, etcd.InChunks())
//	if failure, ok := errors.AsType[*etcd.BulkError](err); ok {
//		rest := make(map[string][]byte)
//		for _, key := range failure.Remaining() {
//			rest[key] = kvs[key]
//		}
//		…
//	}
type BulkError struct {
	// Applied are the keys that were written, deleted or read.
	Applied []string
	// Unknown are the keys of chunks that may have been applied, because the answer was
	// lost. Reads are never unknown.
	Unknown []string
	// NotApplied are the keys that are certainly neither written, deleted nor read.
	NotApplied []string
	// Err is the error of the first chunk that failed, an [*Error] with the first key of
	// that chunk. Its MaybeApplied is true if any write was applied or may have been.
	Err error

	others []error // of the other chunks that failed
}

// Error implements error.
func (e *BulkError) Error() string {
	return fmt.Sprintf("%v; of the keys %d applied, %d unknown, %d not applied", e.Err, len(e.Applied), len(e.Unknown), len(e.NotApplied))
}

// Unwrap returns e.Err, followed by the errors of the other chunks that failed.
func (e *BulkError) Unwrap() []error { return append([]error{e.Err}, e.others...) }

// Remaining returns the keys that are not known to be applied: the unknown ones, and
// those that were not applied. Putting or deleting an unknown one again leads to the same
// result, unless somebody else has written the key in between.
func (e *BulkError) Remaining() []string { return slices.Concat(e.Unknown, e.NotApplied) }

// sendChunks is send with InChunks. It returns the newest revision of the applied chunks.
func (b *bulk) sendChunks(ctx context.Context, o chunkOptions) ([]*pb.ResponseOp, int64, error) {
	if err := b.client.admit(ctx); err != nil {
		return nil, 0, b.request.fail(err)
	}
	ops := make([]operation, len(b.ops))
	for i, wire := range b.ops {
		var err error
		if ops[i], err = b.client.operation(b.keys[i], wire, b.seals[i]); err != nil {
			return nil, 0, fail(b.request.op, b.keys[i], err)
		}
	}
	report := chunkReport{request: b.request}
	err := b.client.newChunker(b.request, o, report.add).run(ctx, func(yield func(operation, error) bool) {
		for _, op := range ops {
			if !yield(op, nil) {
				return
			}
		}
	})
	if err != nil {
		err = report.failure(err, b)
	}
	return report.responses, report.revision, err
}

// chunkReport gathers the outcomes of the chunks of a bulk call.
type chunkReport struct {
	request   request
	outcome   BulkError
	responses []*pb.ResponseOp
	revision  int64 // the newest of the applied chunks
	delivered int   // keys
}

func (r *chunkReport) add(p part) {
	r.delivered += len(p.ops)
	list := &r.outcome.NotApplied
	switch {
	case p.err == nil:
		r.responses = append(r.responses, p.responses...)
		r.revision = max(r.revision, p.revision)
		list = &r.outcome.Applied
	case p.unsent:
	default:
		if MaybeApplied(p.err) {
			list = &r.outcome.Unknown
		}
		r.outcome.others = append(r.outcome.others, p.err)
	}
	for _, op := range p.ops {
		*list = append(*list, op.key)
	}
}

// failure returns the error of a call that failed with err.
func (r *chunkReport) failure(err error, b *bulk) error {
	out := &r.outcome
	out.NotApplied = append(out.NotApplied, b.keys[r.delivered:]...)
	if len(out.others) > 0 {
		out.others = out.others[1:] // err is the first
	}
	out.Err = r.summary(err)
	return out
}

// summary returns the error of the whole call, given its first error. It is about all
// chunks, so that [Client.Settle] can't take it for the error of one of them.
func (r *chunkReport) summary(err error) *Error {
	began := len(r.outcome.Applied)+len(r.outcome.Unknown) > 0
	summary := &Error{Op: r.request.op, Sent: began, MaybeApplied: began && r.request.write, Err: err}
	if first, ok := errors.AsType[*Error](err); ok {
		summary.Key, summary.Err, summary.Sent = first.Key, first.Err, began || first.Sent
	}
	return summary
}
