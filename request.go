package etcd

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// request describes one request of the road: what an error, a hook and the
// retry policy need to know about it.
type request struct {
	op    string
	key   string // without the namespace
	write bool
	// repeatable says that a write changes nothing when it is applied again.
	repeatable bool
	// lost is set, if it is not nil, when a repeatable write succeeded after an
	// attempt that may have been applied.
	lost *bool
	// impatient says that the request ends before its deadline where only proxies
	// answer.
	impatient bool
	// versions returns the version of a key as stored that a transaction is bound to;
	// 0 if it is not known. Nil knows none.
	versions func(stored []byte) int64
	// beside is how many attempts at the same read are under way.
	beside int
	// single says that a read must not be made twice at a time.
	single bool
	// pinned says that a member named the revision that is read. One that doesn't
	// have it yet lags behind.
	pinned bool
	// seals are the puts whose values are encrypted.
	seals *sealedPut
}

// again reports whether the request may be sent again whatever became of it.
func (r *request) again() bool { return !r.write || r.repeatable }

// do is the one road from a method of Client to the server: it applies the
// deadline, the retry policy, the hooks and the mapping of errors.
//
// A read is tried again on another connection until the deadline. A write is
// tried again only when it certainly was not applied (it was never sent, the
// server refused it for the moment, or the token had expired) or when it changes
// nothing the second time (a revocation). Both policies are ours: clientv3's own
// sends a write up to a hundred times when a proxy answers DeadlineExceeded or
// Canceled, so it is limited to one attempt (client.go).
func do[In, Out any](ctx context.Context, c *conn, r request, send unary[In, Out], in In) (Out, error) {
	var none Out
	if err := c.admit(ctx); err != nil {
		return none, fail(r.op, r.key, err)
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	if len(c.cfg.Hooks) == 0 {
		out, _, err := attempts(ctx, c, r, send, in)
		return out, err
	}
	return observed(ctx, c, r, send, in)
}

// observed is do for a client with hooks.
func observed[In, Out any](ctx context.Context, c *conn, r request, send unary[In, Out], in In) (Out, error) {
	h := hooked{hooks: c.cfg.Hooks, info: RequestInfo{Op: r.op, Key: r.key, Write: r.write}, guard: c.hookGuard(ctx)}
	h.result.Err = fail(r.op, r.key, errHookPanicked) // unless it comes further
	defer h.after()
	ctx = h.before(ctx)
	began := time.Now()
	out, n, err := attempts(ctx, c, r, send, in)
	h.result = ResultInfo{Attempts: n, Duration: time.Since(began), Err: err}
	return out, err
}

// attempts sends a request until it succeeds, fails for good or its context
// ends, and returns how often it was tried.
func attempts[In, Out any](ctx context.Context, c *conn, r request, send unary[In, Out], in In) (Out, int, error) {
	var (
		none  Out
		trace = trace{conn: c, request: r}
	)
	if c.severalEndpoints() && ctx.Value(rpc.RouteKey{}) == nil { // a hedge has one already
		ctx = rpc.WithRoute(ctx)
	}
	for n := 1; ; n++ {
		trace.n = n
		out, sent, other, err := hedged(ctx, &trace, send, in)
		if other != nil {
			return other.out, n + other.n, other.err
		}
		if err == nil {
			err = rpc.CheckShape(in, out)
		}
		if err == nil {
			c.seen.Note(out)
			if r.lost != nil {
				*r.lost = trace.maybeApplied
			}
			return out, n, nil
		}
		if unsealed, ok := asUnsealed(err); ok {
			return none, n, trace.unsealed(unsealed, in)
		}
		if !trace.judge(ctx, err, sent, n) {
			return none, n, trace.error(ctx, in)
		}
		if trace.remedy == rpc.RefreshToken {
			c.auth.invalidate(trace.token)
			continue
		}
		if trace.trouble.avoid {
			rpc.Avoid(ctx)
		}
		if trace.remedy == rpc.RetryElsewhere && len(trace.trouble.asked) == n && n < c.endpointCount() {
			continue
		}
		if !rpc.Pause(ctx, c.closing, rpc.Backoff(n)) {
			return none, n, trace.error(ctx, in)
		}
	}
}

// call holds the answer to "did a request leave this process?": gRPC fills in
// the peer of a call exactly when a stream was made for it on a connection
// (google.golang.org/grpc/stream.go, clientStream.finish). This costs one
// allocation; a stats handler would cost eighteen.
type call struct {
	peer peer.Peer
	opts [2]grpc.CallOption
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
func attempt[In, Out any](ctx context.Context, t *trace, send unary[In, Out], in In) (Out, bool, error) {
	c := t.conn
	if left, ok := rpc.TimeLeft(ctx); ok && t.splits() && left > minSplit {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left/2)
		defer cancel()
	}
	t.to = nil
	if err := c.auth.ensure(ctx); err != nil {
		if auth, ok := errors.AsType[*authError](err); ok {
			t.to = auth.to
		}
		var none Out
		return none, false, err
	}
	t.token = c.auth.current()
	t.began = time.Since(epoch)
	if t.request.seals != nil {
		return sealing(ctx, t, send, in)
	}
	call := &call{}
	call.opts[0], call.opts[1] = grpc.Peer(&call.peer), noReplay
	out, err := send(ctx, in, call.opts[:]...)
	t.to = call.peer.Addr
	return out, call.peer.Addr != nil, err
}

// hookGuard returns what hooks are called by.
func (c *conn) hookGuard(ctx context.Context) func(func()) {
	if ctx.Value(backgroundKey{}) == nil {
		return func(call func()) { call() }
	}
	return func(call func()) {
		defer func() {
			if p := recover(); p != nil {
				c.cfg.Logger.Error("etcd: a hook panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			}
		}()
		call()
	}
}
