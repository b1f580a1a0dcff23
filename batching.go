package etcd

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
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
// space refuses puts and takes deletions, and reads must not go through the log. A transaction
// holds its operations at one level, and reads none that is a transaction itself: to the server
// it would be a write.
type batching struct {
	conn *conn
	// known says that the server knows who the client is. Servers before 3.5.22 and 3.6 don't
	// check whether it may do what is in a nested transaction, or read what a put in one has
	// replaced.
	known bool
	// fullUntil is until when, on the client's clock, deletions and reads travel by themselves:
	// a full server of etcd 3.4 takes them, and no transactions.
	fullUntil atomic.Int64
	// largeUntil is until when reads travel by themselves: a large value has held up others.
	largeUntil atomic.Int64

	puts, deletes *lane
	reads         *lane // linearizable
	stale         *lane // serializable
	past          *lane // at a revision, which may be compacted
}

// freight is what the requests of a lane do.
type freight int

const (
	reads freight = iota
	deletions
	puts // each of them at least one, if its conditions allow it
)

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
	// minBatchedTime is the least time that a request has left which travels with others, so
	// that none is given up for the sake of one whose time is up.
	minBatchedTime = 250 * time.Millisecond
	// fullTime is how long a server counts as full.
	fullTime = time.Minute
	// largeAnswer is a value that takes longer than the round trip which a batch saves, and
	// largeTime how long reads travel by themselves after one.
	largeAnswer = 64 << 10
	largeTime   = time.Second
	// batchPatience is how long requests wait for one that may be held up. It is longer
	// than a write takes on a disk that isn't overloaded.
	batchPatience = 25 * time.Millisecond
)

// newBatching takes a Config that still has its secrets. life ends with the client.
func newBatching(life context.Context, c *conn) *batching {
	b := &batching{conn: c, known: c.cfg.isKnown()}
	limits := batch.Limits{
		Bytes:    min(maxBatchBytes, c.rpc.Largest-c.rpc.Largest/16),
		InFlight: c.cfg.BatchInFlight, Patience: batchPatience,
	}
	lane := func(about freight) *lane {
		ops := c.cfg.MaxTxnOps
		if about != reads {
			ops -= b.maxInner() // the server counts those of a nested transaction with those around it
		}
		limits.Ops = max(1, min(maxBatch, ops))
		return batch.New(life, limits, about != reads, func(t *travelling) { b.send(t, about) }, c.rpc.Start)
	}
	b.puts, b.deletes = lane(puts), lane(deletions)
	b.reads, b.stale, b.past = lane(reads), lane(reads), lane(reads)
	return b
}

// maxInner is how many operations a nested transaction may have.
func (b *batching) maxInner() int { return min(maxBatchedOps, b.conn.cfg.MaxTxnOps/2) }

// join implements [joiner].
func (b *batching) join(ctx context.Context, in any, write bool, seals *sealedPut) passage {
	l := b.laneFor(in)
	deadline, ok := ctx.Deadline()
	if l == nil || !ok || time.Until(deadline) < minBatchedTime || hasMetadata(ctx) {
		return passage{}
	}
	if place, ok := l.Lead(); ok {
		return passage{lane: l, place: place}
	}
	op := operationOf(in)
	size := proto.Size(op)
	if size > maxBatchedBytes+maxBatchedBytes/8 || !batch.Joinable(op) {
		return passage{}
	}
	call := &batch.Call[passenger]{Op: op, Size: size, Deadline: deadline, Load: passenger{seals: seals}}
	l.Queue(call)
	switch fate := l.Wait(ctx, call); fate {
	case batch.Leading:
		return passage{lane: l, place: call.Place()}
	case batch.Answered:
		p := passage{isOver: true, report: call.Load.report, together: call.Companions}
		if p.report.Err == nil {
			p.answer = call.Load.answer()
		}
		return p
	case batch.Unsent, batch.Underway:
		return passage{isOver: true, report: b.abandoned(ctx, call, write, fate == batch.Underway), together: 1}
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
		if len(req.Value) <= maxBatchedBytes && (!b.known || !req.PrevKv && req.Lease == 0) {
			return b.puts
		}
	case *pb.RangeRequest:
		switch {
		case isBefore(&b.fullUntil) || isBefore(&b.largeUntil):
			return nil
		case req.Revision > 0:
			return b.past
		case req.Serializable:
			return b.stale
		}
		return b.reads
	case *pb.DeleteRangeRequest:
		if (!b.known || !req.PrevKv) && !isBefore(&b.fullUntil) {
			return b.deletes
		}
	case *pb.TxnRequest:
		if !b.known {
			return b.laneForTxn(req)
		}
	}
	return nil
}

// isBefore reports whether a moment is still to come; 0 is none.
func isBefore(moment *atomic.Int64) bool {
	at := moment.Load()
	return at != 0 && time.Now().UnixNano() < at
}

// laneForTxn is laneFor for a transaction that the server takes for a write.
func (b *batching) laneForTxn(req *pb.TxnRequest) *lane {
	var out *lane
	size := 0
	for _, branch := range [][]*pb.RequestOp{req.Success, req.Failure} {
		for _, op := range branch {
			switch {
			case op.GetRequestPut() != nil:
				out, size = b.puts, size+len(op.GetRequestPut().Value)
			case op.GetRequestDeleteRange() != nil && out == nil:
				out = b.deletes
			case op.GetRequestRange() != nil && (op.GetRequestRange().Serializable || op.GetRequestRange().Revision > 0):
				return nil
			}
		}
	}
	if max(len(req.Compare), len(req.Success), len(req.Failure)) > b.maxInner() || size > maxBatchedBytes || out == b.deletes && isBefore(&b.fullUntil) {
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
func (b *batching) abandoned(ctx context.Context, call *batch.Call[passenger], write, sent bool) rpc.Report {
	err := errs.WithDetail(errs.OfContext(ctx), call.Reason())
	if !sent || b.conn.rpc.IsDisconnected() {
		err = errs.WithDetail(err, b.conn.rpc.DialError())
	}
	return rpc.Report{Attempts: 1, Sent: sent, MaybeApplied: sent && write, Err: err}
}

// send sends a batch, and answers those who are in it.
func (b *batching) send(t *travelling, about freight) {
	d := &departure{batch: t}
	resp, report := b.exchange(d, about)
	apart, ended := b.goApart(d, report, about), t.Context().Err() != nil
	for _, call := range t.Calls {
		if apart && (!ended || time.Until(call.Deadline) > 0) {
			t.SendAlone(call)
			continue
		}
		call.Load.report = report
		if report.Err != nil {
			continue
		}
		at, shares := t.Place(call)
		if at < 0 {
			continue // it is gone
		}
		call.Load.op, call.Load.header = resp.Responses[at], resp.Header
		for _, kv := range call.Load.op.GetResponseRange().GetKvs() {
			if len(kv.Value) > largeAnswer {
				b.largeUntil.Store(time.Now().Add(largeTime).UnixNano())
			}
		}
		if shares {
			call.Load.op = &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: cloneRange(call.Load.op.GetResponseRange())}}
		}
	}
}

// goApart reports whether those of a batch that has failed are to go by themselves: the batch
// was certainly not applied, and one of them alone may be the reason.
func (b *batching) goApart(d *departure, report rpc.Report, about freight) bool {
	switch {
	case report.Err == nil:
		return false
	case errors.Is(report.Err, ErrTooManyOps) && !report.MaybeApplied:
		for _, l := range []*lane{b.puts, b.deletes, b.reads, b.stale, b.past} {
			l.Shrink(len(d.message.Success))
		}
		return true
	case errors.Is(report.Err, ErrNoSpace) && about != puts:
		// What is refused for a lack of space is not applied, unless it puts something.
		b.fullUntil.Store(time.Now().Add(fullTime).UnixNano())
		return true
	case about == reads && d.batch.Context().Err() != nil && !b.conn.rpc.IsClosed():
		return true // some have more time
	default:
		return !report.MaybeApplied && !isShared(report.Err)
	}
}

// isShared reports whether an error is about the cluster or the client, and not about
// one of several requests.
func isShared(err error) bool {
	if isAny(err, ErrKeyUnavailable, ErrKeyringStale, errNotCurrent) {
		return false
	}
	return IsRetryable(err) || isAny(err, ErrClosed, ErrUnauthenticated, ErrAuthFailed, ErrCredentials, context.Canceled)
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
