package rpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

// Request is what the retry policy needs to know about a request.
type Request struct {
	// Write says that the request can change anything.
	Write bool
	// Repeatable says that a write changes nothing when it is applied again.
	Repeatable bool
	// Impatient says that the request ends before its deadline where only proxies
	// answer.
	Impatient bool
	// Single says that a read must not be made twice at a time.
	Single bool
	// Pinned says that a member named the revision that is read. One that doesn't
	// have it yet lags behind.
	Pinned bool
	// Seals are the encrypted values of the request; nil if it has none.
	Seals Seals

	// beside is how many attempts at the same read are under way.
	beside int
}

// again reports whether the request may be sent again whatever became of it.
func (r *Request) again() bool { return !r.Write || r.Repeatable }

// Report says what became of a request.
type Report struct {
	// Attempts is how often it was tried.
	Attempts int
	// Sent reports whether any attempt left this process.
	Sent bool
	// MaybeApplied reports whether an attempt at a write that got no answer, or one that
	// leaves it open, may have been applied. An attempt after it may have succeeded.
	MaybeApplied bool
	// Err is why the request failed; nil if it did not.
	Err error
}

// Do sends a request until it succeeds, fails for good or its context, which has a
// deadline, ends.
//
// A read is tried again on another connection until the deadline. A write is
// tried again only when it certainly was not applied (it was never sent, the
// server refused it for the moment, or the token had expired) or when it changes
// nothing the second time (a revocation). Both policies are ours: clientv3's own
// sends a write up to a hundred times when a proxy answers DeadlineExceeded or
// Canceled, so it is limited to one attempt (conn.go).
func Do[In, Out any](ctx context.Context, c *Conn, r Request, send Unary[In, Out], in In) (Out, Report) {
	var (
		none  Out
		trace = trace{conn: c, request: r}
	)
	if c.HasSeveralEndpoints() {
		ctx = WithRoute(ctx)
	}
	for n := 1; ; n++ {
		trace.n = n
		out, sent, other, err := hedged(ctx, &trace, send, in)
		if other != nil {
			other.report.Attempts += n
			return other.out, other.report
		}
		if err == nil {
			err = checkShape(in, out)
		}
		if err == nil {
			c.Seen.Note(out)
			return out, trace.report(nil)
		}
		if unsealed, ok := asUnsealed(err); ok {
			return none, trace.report(unsealed.err)
		}
		if !trace.judge(ctx, err, sent, n) {
			return none, trace.report(trace.error(ctx))
		}
		if recaller, ok := r.Seals.(Recaller); ok && !trace.maybeApplied {
			recaller.NotApplied(trace.trouble.last)
		}
		if trace.remedy == RefreshToken {
			c.Auth.Invalidate(trace.token)
			continue
		}
		if trace.trouble.avoid {
			Avoid(ctx)
		}
		if trace.remedy == RetryElsewhere && len(trace.trouble.asked) == n && n < c.EndpointCount() {
			continue
		}
		if !Pause(ctx, c.closing, Backoff(n)) {
			return none, trace.report(trace.error(ctx))
		}
	}
}

// call holds the answer to "did a request leave this process?": gRPC fills in the peer of a
// call exactly when a stream was made for it on a connection
// (google.golang.org/grpc/stream.go, clientStream.finish). A stats handler would cost
// eighteen allocations.
type call struct {
	peer peer.Peer
	opts [3]grpc.CallOption
}

// calls are those that aren't in use. gRPC is done with the options of a unary RPC when that
// returns.
var calls = sync.Pool{New: func() any {
	c := &call{}
	c.opts = [3]grpc.CallOption{grpc.Peer(&c.peer), noReplay, grpc.StaticMethod()}
	return c
}}

// free returns where the call was sent, and makes room for another one.
func (c *call) free() net.Addr {
	to := c.peer.Addr
	c.peer = peer.Peer{}
	calls.Put(c)
	return to
}

// noReplay keeps gRPC from sending a request again by itself once it has been
// written. It does so when a stream is refused, as HTTP/2 promises that such a
// request was not processed; but HAProxy refuses a stream whose server has carried
// the request out and lost its connection before the answer.
var noReplay = grpc.MaxRetryRPCBufferSize(0)

// attempt makes one RPC and reports whether it left the process. With several
// endpoints a request that may be repeated, and is not hedged, gets only half of the
// time that is left, so that a member which swallows requests can't take it all and
// another one can still answer.
func attempt[In, Out any](ctx context.Context, t *trace, send Unary[In, Out], in In) (Out, bool, error) {
	c := t.conn
	if left, ok := timeLeft(ctx); ok && t.splits() && left > minSplit {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left/2)
		defer cancel()
	}
	t.to = nil
	if err := c.Auth.Ensure(ctx); err != nil {
		if auth, ok := errors.AsType[*authError](err); ok {
			t.to = auth.to
		}
		var none Out
		return none, false, err
	}
	t.token = c.Auth.Current()
	t.began = time.Since(epoch)
	if t.request.Seals != nil {
		return sealing(ctx, t, send, in)
	}
	call := calls.Get().(*call)
	out, err := send(ctx, in, call.opts[:]...)
	t.to = call.free()
	return out, t.to != nil, err
}

// NotePeer has opts, those of an RPC in the shape of a unary one that goes over a stream
// of its own making, say where it was sent. gRPC itself does when a stream has ended, and
// then from a goroutine of its own.
func NotePeer(opts []grpc.CallOption, to *peer.Peer) {
	for _, opt := range opts {
		if asked, ok := opt.(grpc.PeerCallOption); ok {
			*asked.PeerAddr = *to
		}
	}
}
