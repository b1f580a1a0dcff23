package etcd

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd/internal/dial"
	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// trace gathers over the attempts of one request what its error has to say.
type trace struct {
	conn    *conn
	request request
	// n is the number of the attempt.
	n int
	// sent says that any attempt left the process.
	sent bool
	// maybeApplied says that an attempt was sent and not refused.
	maybeApplied bool
	// remedy is what was found to help after the last attempt.
	remedy rpc.Remedy
	// token is the one in use at the last attempt, or an older one.
	token *token
	// refreshes counts the tokens asked for.
	refreshes int
	// kind is the sentinel for the last attempt.
	kind error
	// unsent says that the last attempt did not leave the process.
	unsent bool
	// reason is the last answer that says more than that time was up.
	reason error
	// closed says that the connection was closed from this side.
	closed bool
	// to is where the last attempt was sent; nil if it was not.
	to net.Addr
	// began is when the last attempt did, since epoch.
	began time.Duration
	// trouble is what is noted of failed attempts; nil before the first.
	trouble *trouble
}

// judge takes in the outcome of attempt n and reports whether there should be
// another one.
func (t *trace) judge(ctx context.Context, err error, sent bool, n int) bool {
	a := rpc.Interpret(err)
	if t.request.pinned && errors.Is(a.Kind, ErrFutureRevision) {
		a.Remedy = rpc.RetryAny
	}
	if t.trouble == nil {
		t.trouble = &trouble{}
	}
	t.kind, t.remedy, t.unsent, t.trouble.avoid = a.Kind, a.Remedy, !sent, t.to != nil && a.Elsewhere()
	t.sent = t.sent || sent
	if t.request.write && sent && !a.Refused {
		t.maybeApplied = true
	}
	t.trouble.last = rpc.Describe(a.Kind, err)
	if !a.Own {
		t.trouble.last = at(t.to, t.trouble.last)
	}
	switch {
	case !isContextStatus(err):
		t.reason = t.trouble.last
	case sent:
		t.trouble.silent = at(t.to, dial.NoneFor("answer", time.Since(epoch)-t.began))
	}
	// A proxy may say of its own connections that it closes them.
	t.closed = t.conn.isClosed() || !sent && rpc.IsClosing(err)
	if rpc.TimeIsUp(ctx) || t.closed || t.outOfPatience(err) {
		return false
	}
	switch a.Remedy {
	case rpc.RetryRead:
		// A write that was never sent is as harmless as a read.
		return t.request.again() || !sent
	case rpc.RetryAny:
		return true
	case rpc.RetryElsewhere:
		return (t.request.again() || !sent || a.Refused) && t.elsewhere(a, n)
	case rpc.RefreshToken:
		t.refreshes++
		return t.conn.auth.canRefresh() && t.refreshes <= maxRefreshes
	default:
		return false
	}
}

// error returns the error of a request, in, whose attempts have failed.
func (t *trace) error(ctx context.Context, in any) error {
	e := &Error{Op: t.request.op, Key: t.request.key, Sent: t.sent, MaybeApplied: t.maybeApplied}
	if t.maybeApplied {
		e.lost = t.conn.lose(in, t.request.seals)
	}
	switch {
	case t.closed || t.conn.isClosed():
		e.Err = ErrClosed
	case rpc.TimeIsUp(ctx):
		e.Err = t.ended(ctx)
	default:
		e.Err = t.trouble.last
		if errors.Is(t.kind, ErrUnavailable) {
			e.Err = errs.WithDetail(e.Err, t.conn.dialError())
		}
	}
	return e
}

// ended returns the error of a request whose context ended. What it was
// waiting for is part of it: the last answer, or why there was no connection.
func (t *trace) ended(ctx context.Context) error {
	ended := errs.WithDetail(errs.OfContext(ctx), t.reason)
	if t.reason == nil && !t.unsent {
		ended = errs.WithDetail(ended, t.trouble.silent)
	}
	// A request whose connection broke before it was written waits inside gRPC
	// for another one, and counts as sent.
	if t.unsent || errors.Is(t.kind, ErrUnavailable) || t.conn.disconnected() {
		ended = errs.WithDetail(ended, t.conn.dialError())
	}
	return ended
}

// splits reports whether an attempt gets but a part of the time. Of the last read
// beside others the first one doesn't.
func (t *trace) splits() bool {
	r := &t.request
	return r.again() && !t.hedges() && (r.write || r.single || t.n > 1) && t.conn.severalEndpoints()
}

// trouble is what a trace notes of failed attempts. It is apart from it for the
// requests that have none.
type trouble struct {
	// last is the error of the last attempt, in the words of this package.
	last error
	// silent names the endpoint that did not answer the last attempt in its time.
	silent error
	// avoid says that the endpoint of the last attempt can't serve requests now.
	avoid bool
	// asked are the endpoints that could not serve the request.
	asked []string
	// web is when the first of the last answers in a row came that were all of
	// the web, and not of etcd.
	web time.Time
}

// epoch is a moment before all attempts.
var epoch = time.Now()

// isContextStatus reports whether err says no more than that time was up or the
// caller gave up, on either side.
func isContextStatus(err error) bool {
	code := status.Code(err)
	return code == codes.DeadlineExceeded || code == codes.Canceled
}

// maxRefreshes bounds the tokens asked for during one request. One is enough
// for an expired token; a second and third cover roles that are being changed
// at the same time (each change makes the tokens before it old).
const maxRefreshes = 3

// minSplit is the time under which a read's remaining time is not divided any
// more: a healthy but distant cluster needs some of it for one answer.
const minSplit = 500 * time.Millisecond

// elsewhere takes in that the endpoint of attempt n could not serve the request,
// and reports whether another one is worth an attempt: until each was asked as
// often as it takes, or can't be connected to.
func (t *trace) elsewhere(a rpc.Verdict, n int) bool {
	if t.to != nil && !slices.Contains(t.trouble.asked, dial.NameOf(t.to)) {
		t.trouble.asked = append(t.trouble.asked, dial.NameOf(t.to))
	}
	count := t.conn.endpointCount()
	return n < a.Rounds()*count || n < maxElsewhere && len(t.trouble.asked)+len(t.conn.dials.Failures()) < count
}

// maxElsewhere bounds the attempts that wait for an endpoint to be connected to
// which could serve what others can't.
const maxElsewhere = 10

// outOfPatience takes in the error of an attempt and reports whether a request
// that need not last until its deadline has met nothing but a web for long enough.
func (t *trace) outOfPatience(err error) bool {
	if !t.request.impatient {
		return false
	}
	switch {
	case !rpc.IsWeb(status.Convert(err).Message()):
		t.trouble.web = time.Time{}
	case t.trouble.web.IsZero():
		t.trouble.web = time.Now()
	default:
		return time.Since(t.trouble.web) >= webPatience
	}
	return false
}

// webPatience is how long NewClient goes on where nothing but a web answers: a
// proxy that has lost its server for a moment has it back by then.
const webPatience = time.Second
