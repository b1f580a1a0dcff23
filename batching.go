package etcd

import (
	"bytes"
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/blueprint-go/etcd/internal/batch"
	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/rpc"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// batching has requests about single keys travel together, see [Config.WithBatching]. Those
// that share a transaction share its fate, so that they are of one kind: a server without
// space refuses puts and takes deletions, and reads must not go through the log.
type batching struct {
	conn    *conn
	nesting *txntree.Limit

	puts, deletes *lane
	reads         *lane // linearizable
	stale         *lane // serializable
	past          *lane // at a revision, which may be compacted
}

type (
	lane       = batch.Lane[passenger]
	travelling = batch.Batch[passenger]
)

// passenger is a request in a batch.
type passenger struct {
	seals *sealedPut
	// The answer.
	op     *pb.ResponseOp
	header *pb.ResponseHeader
	report rpc.Report
}

const (
	// maxBatchedBytes is the largest request that travels with others: what is larger
	// takes longer than the round trip that it would save.
	maxBatchedBytes = 16 << 10
	// maxBatch is how many requests travel together, and maxBatchBytes what they hold: more
	// don't make them faster.
	maxBatch      = 128
	maxBatchBytes = 128 << 10
	// maxBatchedOps is how many operations a request may have that travels with others.
	maxBatchedOps = 16
	// batchPatience is how long requests wait for one that may be held up. It is longer
	// than a write takes on a disk that isn't overloaded.
	batchPatience = 25 * time.Millisecond
)

func newBatching(c *conn, nesting *txntree.Limit) *batching {
	b := &batching{conn: c, nesting: nesting}
	limits := batch.Limits{
		Ops: maxBatch, Bytes: min(maxBatchBytes, c.rpc.Largest-c.rpc.Largest/16),
		InFlight: c.cfg.BatchInFlight, Patience: batchPatience,
	}
	writes := func() *lane {
		return batch.New(limits, true, func(t *travelling) { b.send(t, true) }, c.rpc.Start)
	}
	reads := func() *lane {
		return batch.New(limits, false, func(t *travelling) { b.send(t, false) }, c.rpc.Start)
	}
	b.puts, b.deletes, b.reads, b.stale, b.past = writes(), writes(), reads(), reads(), reads()
	return b
}

// join implements [joiner].
func (b *batching) join(ctx context.Context, in any, write bool, seals *sealedPut) passage {
	l := b.laneFor(in)
	if l == nil || hasMetadata(ctx) {
		return passage{}
	}
	if l.Lead() {
		return passage{place: l}
	}
	op := operationOf(in)
	size := proto.Size(op)
	if size > maxBatchedBytes+maxBatchedBytes/8 || !batch.Joinable(op) {
		return passage{}
	}
	deadline, _ := ctx.Deadline()
	call := &batch.Call[passenger]{Op: op, Size: size, Deadline: deadline, Load: passenger{seals: seals}}
	l.Queue(call)
	switch fate := l.Wait(ctx, call); fate {
	case batch.Leading:
		return passage{place: l}
	case batch.Answered:
		p := passage{isOver: true, report: call.Load.report, together: call.Companions}
		if p.report.Err == nil {
			p.answer = call.Load.answer()
		}
		return p
	case batch.Unsent, batch.Underway:
		return passage{isOver: true, report: b.abandoned(ctx, write, fate == batch.Underway), together: 1}
	default:
		return passage{}
	}
}

// hasMetadata reports whether a request has to say something of its own to the server.
func hasMetadata(ctx context.Context) bool {
	_, ok := metadata.FromOutgoingContext(ctx)
	return ok
}

// laneFor returns where a request meets others; nil if it travels by itself.
func (b *batching) laneFor(in any) *lane {
	switch req := in.(type) {
	case *pb.PutRequest:
		if len(req.Value) <= maxBatchedBytes {
			return b.puts
		}
	case *pb.RangeRequest:
		switch {
		case req.Revision > 0:
			return b.past
		case req.Serializable:
			return b.stale
		}
		return b.reads
	case *pb.DeleteRangeRequest:
		return b.deletes
	case *pb.TxnRequest:
		return b.laneForTxn(req)
	}
	return nil
}

func (b *batching) laneForTxn(req *pb.TxnRequest) *lane {
	ops, size := max(len(req.Compare), len(req.Success), len(req.Failure)), 0
	out := b.reads
	for _, branch := range [][]*pb.RequestOp{req.Success, req.Failure} {
		for _, op := range branch {
			switch {
			case op.GetRequestPut() != nil:
				out, size = b.puts, size+len(op.GetRequestPut().Value)
			case op.GetRequestDeleteRange() != nil && out != b.puts:
				out = b.deletes
			case op.GetRequestRange() != nil && (op.GetRequestRange().Serializable || op.GetRequestRange().Revision > 0):
				return nil
			}
		}
	}
	if ops > maxBatchedOps || size > maxBatchedBytes {
		return nil
	}
	return out
}

// operationOf returns a request as an operation of a transaction.
func operationOf(in any) *pb.RequestOp {
	switch req := in.(type) {
	case *pb.PutRequest:
		return txntree.Put(req)
	case *pb.RangeRequest:
		return txntree.Range(req)
	case *pb.DeleteRangeRequest:
		return txntree.Delete(req)
	case *pb.TxnRequest:
		return txntree.Txn(req)
	}
	return &pb.RequestOp{}
}

// answer returns the answer as the server gives it to a request by itself.
func (p *passenger) answer() any {
	// Each has its own: replay.amend writes into it.
	header := &pb.ResponseHeader{
		ClusterId: p.header.GetClusterId(), MemberId: p.header.GetMemberId(),
		Revision: p.header.GetRevision(), RaftTerm: p.header.GetRaftTerm(),
	}
	switch r := p.op.GetResponse().(type) {
	case *pb.ResponseOp_ResponsePut:
		r.ResponsePut.Header = header
		return r.ResponsePut
	case *pb.ResponseOp_ResponseRange:
		r.ResponseRange.Header = header
		return r.ResponseRange
	case *pb.ResponseOp_ResponseDeleteRange:
		r.ResponseDeleteRange.Header = header
		return r.ResponseDeleteRange
	case *pb.ResponseOp_ResponseTxn:
		r.ResponseTxn.Header = header
		return r.ResponseTxn
	}
	return nil // rpc.Do has checked that it is there
}

// abandoned reports on a request that its caller did not wait for.
func (b *batching) abandoned(ctx context.Context, write, sent bool) rpc.Report {
	err := errs.OfContext(ctx)
	if !sent || b.conn.rpc.IsDisconnected() {
		err = errs.WithDetail(err, b.conn.rpc.DialError())
	}
	return rpc.Report{Attempts: 1, Sent: sent, MaybeApplied: sent && write, Err: err}
}

// send sends a batch, and answers those who are in it.
func (b *batching) send(t *travelling, write bool) {
	out, report := b.exchange(t, write)
	if report.Err != nil && !report.MaybeApplied && !isShared(report.Err) {
		// One of them is refused, and all with it: nothing was applied.
		for _, call := range t.Calls {
			t.SendAlone(call)
		}
		return
	}
	for _, call := range t.Calls {
		call.Load.report = report
		if report.Err != nil {
			continue
		}
		at, shares := t.Place(call)
		if at < 0 {
			continue // it is gone
		}
		call.Load.op, call.Load.header = out.ops[at], out.header
		if shares {
			call.Load.op = &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: cloneRange(out.ops[at].GetResponseRange())}}
		}
	}
}

// isShared reports whether an error is about the cluster or the client, and not about
// one of several requests.
func isShared(err error) bool {
	for _, own := range []error{ErrKeyUnavailable, ErrKeyringStale, errNotCurrent} {
		if errors.Is(err, own) {
			return false
		}
	}
	if IsRetryable(err) {
		return true
	}
	for _, shared := range []error{ErrClosed, ErrUnauthenticated, ErrAuthFailed, ErrCredentials, context.Canceled} {
		if errors.Is(err, shared) {
			return true
		}
	}
	return false
}

// cloneRange copies what a decoding may overwrite.
func cloneRange(r *pb.RangeResponse) *pb.RangeResponse {
	out := &pb.RangeResponse{More: r.More, Count: r.Count}
	for _, kv := range r.Kvs {
		out.Kvs = append(out.Kvs, &mvccpb.KeyValue{
			Key: kv.Key, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
			Version: kv.Version, Value: bytes.Clone(kv.Value), Lease: kv.Lease,
		})
	}
	return out
}
