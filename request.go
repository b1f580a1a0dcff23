package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Backoff between the attempts of one request. The first wait is clientv3's
// (defaultBackoffWaitBetween); it doubles up to a second, so that a request
// which lives for the default five seconds is tried about a dozen times, and each
// wait is cut by up to a half at random, so that clients which failed together
// don't come back together.
const (
	firstBackoff = 25 * time.Millisecond
	maxBackoff   = time.Second
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
	// impatient tells that the request ends before its deadline where only proxies
	// answer.
	impatient bool
	// versions returns the version of a key as stored that a transaction is bound to;
	// 0 if it is not known. Nil knows none.
	versions func(stored []byte) int64
	// beside is how many attempts at the same read are under way.
	beside int
	// single says that a read must not be made twice at a time.
	single bool
	// pinned tells that a member named the revision that is read. One that doesn't
	// have it yet lags behind.
	pinned bool
	// seals are the puts whose values are encrypted.
	seals *sealedPut
}

// again reports whether the request may be sent again whatever became of it.
func (r *request) again() bool { return !r.write || r.repeatable }

// unary is the shape of every unary RPC of the generated clients.
type unary[In, Out any] func(context.Context, In, ...grpc.CallOption) (Out, error)

// do is the one road from a method of Client to the server: it applies the
// deadline, the retry policy, the hooks and the mapping of errors.
//
// A read is tried again on another connection until the deadline. A write is
// tried again only when it certainly was not applied (it was never sent, the
// server refused it for the moment, or the token had expired) or when it changes
// nothing the second time (a revocation). Both policies are ours: clientv3's own
// sends a write up to a hundred times when a proxy answers DeadlineExceeded or
// Canceled, so it is limited to one attempt (client.go).
func do[In, Out any](ctx context.Context, c *conn, r request, rpc unary[In, Out], in In) (Out, error) {
	var none Out
	if err := c.admit(ctx); err != nil {
		return none, fail(r.op, r.key, err)
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	if len(c.cfg.Hooks) == 0 {
		out, _, err := attempts(ctx, c, r, rpc, in)
		return out, err
	}
	return observed(ctx, c, r, rpc, in)
}

// observed is do for a client with hooks.
func observed[In, Out any](ctx context.Context, c *conn, r request, rpc unary[In, Out], in In) (Out, error) {
	h := hooked{hooks: c.cfg.Hooks, info: RequestInfo{Op: r.op, Key: r.key, Write: r.write}, guard: c.hookGuard(ctx)}
	h.result.Err = fail(r.op, r.key, errHookPanicked) // unless it comes further
	defer h.after()
	ctx = h.before(ctx)
	began := time.Now()
	out, n, err := attempts(ctx, c, r, rpc, in)
	h.result = ResultInfo{Attempts: n, Duration: time.Since(began), Err: err}
	return out, err
}

// attempts sends a request until it succeeds, fails for good or its context
// ends, and returns how often it was tried.
func attempts[In, Out any](ctx context.Context, c *conn, r request, rpc unary[In, Out], in In) (Out, int, error) {
	var (
		none  Out
		trace = trace{conn: c, request: r}
	)
	if c.severalEndpoints() && ctx.Value(routeKey{}) == nil { // a hedge has one already
		ctx = withRoute(ctx)
	}
	for n := 1; ; n++ {
		trace.n = n
		out, sent, other, err := hedged(ctx, &trace, rpc, in)
		if other != nil {
			return other.out, n + other.n, other.err
		}
		if err == nil {
			err = checkShape(in, out)
		}
		if err == nil {
			c.seen.note(out)
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
		if trace.remedy == refreshToken {
			c.auth.invalidate(trace.token)
			continue
		}
		if trace.trouble.avoid {
			avoid(ctx)
		}
		if trace.remedy == retryElsewhere && len(trace.trouble.asked) == n && n < c.endpointCount() {
			continue
		}
		if !pause(ctx, c.closing, backoff(n)) {
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
func attempt[In, Out any](ctx context.Context, t *trace, rpc unary[In, Out], in In) (Out, bool, error) {
	c := t.conn
	if left, ok := timeLeft(ctx); ok && t.splits() && left > minSplit {
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
		return sealing(ctx, t, rpc, in)
	}
	call := &call{}
	call.opts[0], call.opts[1] = grpc.Peer(&call.peer), noReplay
	out, err := rpc(ctx, in, call.opts[:]...)
	t.to = call.peer.Addr
	return out, call.peer.Addr != nil, err
}

// splits reports whether an attempt gets but a part of the time. Of the last read
// beside others the first one doesn't.
func (t *trace) splits() bool {
	r := &t.request
	return r.again() && !t.hedges() && (r.write || r.single || t.n > 1) && t.conn.severalEndpoints()
}

// minSplit is the time under which a read's remaining time is not divided any
// more: a healthy but distant cluster needs some of it for one answer.
const minSplit = 500 * time.Millisecond

// timeIsUp reports whether ctx has ended, or its deadline has passed and only its
// timer is late: the server and gRPC go by their own clocks.
func timeIsUp(ctx context.Context) bool {
	left, ok := timeLeft(ctx)
	return ctx.Err() != nil || ok && left <= 0
}

func timeLeft(ctx context.Context) (time.Duration, bool) {
	d, ok := ctx.Deadline()
	if !ok {
		return 0, false
	}
	return time.Until(d), true
}

// trace gathers over the attempts of one request what its error has to say.
type trace struct {
	conn    *conn
	request request
	// n is the number of the attempt.
	n int
	// sent tells that any attempt left the process.
	sent bool
	// maybeApplied tells that an attempt was sent and not refused.
	maybeApplied bool
	// remedy is what was found to help after the last attempt.
	remedy remedy
	// token is the one in use at the last attempt, or an older one.
	token *token
	// refreshes counts the tokens asked for.
	refreshes int
	// kind is the sentinel for the last attempt.
	kind error
	// unsent tells that the last attempt did not leave the process.
	unsent bool
	// reason is the last answer that says more than that time was up.
	reason error
	// closed tells that the connection was closed from this side.
	closed bool
	// to is where the last attempt was sent; nil if it was not.
	to net.Addr
	// began is when the last attempt did, since epoch.
	began time.Duration
	// trouble is what is noted of failed attempts; nil before the first.
	trouble *trouble
}

// trouble is what a trace notes of failed attempts. It is apart from it for the
// requests that have none.
type trouble struct {
	// last is the error of the last attempt, in the words of this package.
	last error
	// silent names the endpoint that did not answer the last attempt in its time.
	silent error
	// avoid tells that the endpoint of the last attempt can't serve requests now.
	avoid bool
	// asked are the endpoints that could not serve the request.
	asked []string
	// web is when the first of the last answers in a row came that were all of
	// the web, and not of etcd.
	web time.Time
}

// epoch is a moment before all attempts.
var epoch = time.Now()

// judge takes in the outcome of attempt n and reports whether there should be
// another one.
func (t *trace) judge(ctx context.Context, err error, sent bool, n int) bool {
	a := interpret(err)
	if t.request.pinned && errors.Is(a.kind, ErrFutureRevision) {
		a.remedy = retryAny
	}
	if t.trouble == nil {
		t.trouble = &trouble{}
	}
	t.kind, t.remedy, t.unsent, t.trouble.avoid = a.kind, a.remedy, !sent, t.to != nil && a.elsewhere()
	t.sent = t.sent || sent
	if t.request.write && sent && !a.refused {
		t.maybeApplied = true
	}
	t.trouble.last = describe(a.kind, err)
	if !a.own {
		t.trouble.last = at(t.to, t.trouble.last)
	}
	switch {
	case !isContextStatus(err):
		t.reason = t.trouble.last
	case sent:
		t.trouble.silent = at(t.to, noneFor("answer", time.Since(epoch)-t.began))
	}
	// A proxy may say of its own connections that it closes them.
	t.closed = t.conn.isClosed() || !sent && isClosing(err)
	if timeIsUp(ctx) || t.closed || t.outOfPatience(err) {
		return false
	}
	switch a.remedy {
	case retryRead:
		// A write that was never sent is as harmless as a read.
		return t.request.again() || !sent
	case retryAny:
		return true
	case retryElsewhere:
		return (t.request.again() || !sent || a.refused) && t.elsewhere(a, n)
	case refreshToken:
		t.refreshes++
		return t.conn.auth.canRefresh() && t.refreshes <= maxRefreshes
	default:
		return false
	}
}

// maxRefreshes bounds the tokens asked for during one request. One is enough
// for an expired token; a second and third cover roles that are being changed
// at the same time (each change makes the tokens before it old).
const maxRefreshes = 3

// error returns the error of a request, in, whose attempts have failed.
func (t *trace) error(ctx context.Context, in any) error {
	e := &Error{Op: t.request.op, Key: t.request.key, Sent: t.sent, MaybeApplied: t.maybeApplied}
	if t.maybeApplied {
		e.lost = t.conn.lose(in, t.request.seals)
	}
	switch {
	case t.closed || t.conn.isClosed():
		e.Err = ErrClosed
	case timeIsUp(ctx):
		e.Err = t.ended(ctx)
	default:
		e.Err = t.trouble.last
		if errors.Is(t.kind, ErrUnavailable) {
			e.Err = withDetail(e.Err, t.conn.dialError())
		}
	}
	return e
}

// ended returns the error of a request whose context ended. What it was
// waiting for is part of it: the last answer, or why there was no connection.
func (t *trace) ended(ctx context.Context) error {
	ended := withDetail(contextError(ctx), t.reason)
	if t.reason == nil && !t.unsent {
		ended = withDetail(ended, t.trouble.silent)
	}
	// A request whose connection broke before it was written waits inside gRPC
	// for another one, and counts as sent.
	if t.unsent || errors.Is(t.kind, ErrUnavailable) || t.conn.disconnected() {
		ended = withDetail(ended, t.conn.dialError())
	}
	return ended
}

// isContextStatus reports whether err says no more than that time was up or the
// caller gave up, on either side.
func isContextStatus(err error) bool {
	code := status.Code(err)
	return code == codes.DeadlineExceeded || code == codes.Canceled
}

// backoff returns the wait after attempt n.
func backoff(n int) time.Duration {
	d := min(firstBackoff<<min(n-1, 6), maxBackoff)
	return d/2 + rand.N(d/2+1)
}

// pause waits for d and reports whether the request should go on: false when
// its context ended or the client was closed meanwhile.
func pause(ctx context.Context, closing <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-closing:
	}
	return false
}
