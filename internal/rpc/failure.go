package rpc

import (
	"context"
	"errors"
	"time"

	"github.com/blueprint-go/etcd/internal/errs"
)

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

// report returns what became of the request, which ended with err.
func (t *trace) report(err error) Report {
	return Report{Attempts: t.n, Sent: t.sent, MaybeApplied: t.maybeApplied, Err: err}
}

// error returns why the attempts of a request have failed.
func (t *trace) error(ctx context.Context) error {
	switch {
	case t.closed || t.conn.IsClosed():
		return errs.ErrClosed
	case TimeIsUp(ctx):
		return t.ended(ctx)
	case errors.Is(t.kind, errs.ErrUnavailable):
		return errs.WithDetail(t.trouble.last, t.conn.DialError())
	default:
		return t.trouble.last
	}
}

// at returns err as that of the endpoint of the last attempt.
func (t *trace) at(err error) error { return at(t.conn.params.AtEndpoint, t.to, err) }

// ended returns the error of a request whose context ended. What it was
// waiting for is part of it: the last answer, or why there was no connection.
func (t *trace) ended(ctx context.Context) error {
	ended := errs.WithDetail(errs.OfContext(ctx), t.reason)
	if t.reason == nil && !t.unsent {
		ended = errs.WithDetail(ended, t.trouble.silent)
	}
	// A request whose connection broke before it was written waits inside gRPC
	// for another one, and counts as sent.
	if t.unsent || errors.Is(t.kind, errs.ErrUnavailable) || t.conn.IsDisconnected() {
		ended = errs.WithDetail(ended, t.conn.DialError())
	}
	return ended
}
