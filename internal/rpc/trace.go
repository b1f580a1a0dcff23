package rpc

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
)

// trace gathers over the attempts of one request what its error has to say.
type trace struct {
	conn    *Conn
	request Request
	// n is the number of the attempt.
	n int
	// sent says that any attempt left the process.
	sent bool
	// maybeApplied says that an attempt was sent and not refused.
	maybeApplied bool
	// remedy is what was found to help after the last attempt.
	remedy Remedy
	// token is the one in use at the last attempt, or an older one.
	token *Token
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
	a := Interpret(err)
	if t.request.Pinned && errors.Is(a.Kind, errs.ErrFutureRevision) {
		a.Remedy = RetryAny
	}
	if t.trouble == nil {
		t.trouble = &trouble{}
	}
	t.kind, t.remedy, t.unsent, t.trouble.avoid = a.Kind, a.Remedy, !sent, t.to != nil && a.Elsewhere()
	t.sent = t.sent || sent
	if t.request.Write && sent && !a.Refused {
		t.maybeApplied = true
	}
	t.trouble.last = Describe(a.Kind, err)
	if !a.Own {
		t.trouble.last = t.at(t.trouble.last)
	}
	switch {
	case !isContextStatus(err):
		t.reason = t.trouble.last
	case sent:
		t.trouble.silent = t.at(dial.NoneFor("answer", time.Since(epoch)-t.began))
	}
	// A proxy may say of its own connections that it closes them.
	t.closed = t.conn.IsClosed() || !sent && IsClosing(err)
	if TimeIsUp(ctx) || t.closed || t.outOfPatience(err) {
		return false
	}
	switch a.Remedy {
	case RetryRead:
		// A write that was never sent is as harmless as a read.
		return t.request.again() || !sent
	case RetryAny:
		return true
	case RetryElsewhere:
		return (t.request.again() || !sent || a.Refused) && t.elsewhere(a, n)
	case RefreshToken:
		t.refreshes++
		return t.conn.Auth.CanRefresh() && t.refreshes <= MaxRefreshes
	default:
		return false
	}
}

// splits reports whether an attempt gets but a part of the time. Of the last read
// beside others the first one doesn't.
func (t *trace) splits() bool {
	r := &t.request
	return r.again() && !t.hedges() && (r.Write || r.Single || t.n > 1) && t.conn.HasSeveralEndpoints()
}

// epoch is a moment before all attempts.
var epoch = time.Now()

// isContextStatus reports whether err says no more than that time was up or the
// caller gave up, on either side.
func isContextStatus(err error) bool {
	code := status.Code(err)
	return code == codes.DeadlineExceeded || code == codes.Canceled
}

// MaxRefreshes bounds the tokens asked for during one request. One is enough
// for an expired token; a second and third cover roles that are being changed
// at the same time (each change makes the tokens before it old).
const MaxRefreshes = 3

// minSplit is the time under which a read's remaining time is not divided any
// more: a healthy but distant cluster needs some of it for one answer.
const minSplit = 500 * time.Millisecond

// elsewhere takes in that the endpoint of attempt n could not serve the request,
// and reports whether another one is worth an attempt: until each was asked as
// often as it takes, or can't be connected to.
func (t *trace) elsewhere(a Verdict, n int) bool {
	if t.to != nil && !slices.Contains(t.trouble.asked, dial.NameOf(t.to)) {
		t.trouble.asked = append(t.trouble.asked, dial.NameOf(t.to))
	}
	count := t.conn.EndpointCount()
	return n < a.Rounds()*count || n < maxElsewhere && len(t.trouble.asked)+len(t.conn.dials.Failures()) < count
}

// maxElsewhere bounds the attempts that wait for an endpoint to be connected to
// which could serve what others can't.
const maxElsewhere = 10

// outOfPatience takes in the error of an attempt and reports whether a request
// that need not last until its deadline has met nothing but a web for long enough.
func (t *trace) outOfPatience(err error) bool {
	if !t.request.Impatient {
		return false
	}
	switch {
	case !IsWeb(status.Convert(err).Message()):
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
