package etcd

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// request describes one request: what an error, a hook and the retry policy need to know
// about it.
type request struct {
	op    string
	key   string // without the namespace
	write bool
	// repeatable says that a write changes nothing when it is applied again.
	repeatable bool
	// impatient says that the request ends before its deadline if only proxies answer.
	impatient bool
	// single says that a read must not be made twice at a time.
	single bool
	// pinned says that a member named the revision that is read. One that doesn't
	// have it yet lags behind.
	pinned bool
	// versions returns the version of a key as stored that a transaction is bound to;
	// 0 if it is not known. Nil knows none.
	versions func(stored []byte) int64
	// seals are the puts whose values are encrypted.
	seals *sealedPut
	// compares are the conditions of the call, that bulk calls and puts are bound to.
	compares []*pb.Compare
	// joins says that the request may travel with others.
	joins bool
	// fenced is the write as it is sent if its context is guarded by a lock; nil if not.
	fenced *fencedWrite
}

// policy returns what decides whether r is tried again.
func (r *request) policy() rpc.Request {
	p := rpc.Request{Write: r.write, Repeatable: r.repeatable, Impatient: r.impatient, Single: r.single, Pinned: r.pinned}
	if r.seals != nil {
		p.Seals = r.seals
	}
	return p
}

// fail returns the error of a request that was not sent.
func (r *request) fail(err error) error { return fail(r.op, r.key, err) }

// answered returns the error of a request that was answered, and whose answer is not
// what was asked for; nil for nil.
func (r *request) answered(err error) error { return answered(r.op, r.key, err) }

// unsettled returns the error of a write whose answer leaves open whether it was applied.
func (r *request) unsettled(err error) *Error {
	return &Error{Op: r.op, Key: r.key, Sent: true, MaybeApplied: true, Err: err}
}

// do is the only way from a method of Client to the server. It applies the deadline, the
// retry policy (package rpc) and the hooks, and makes the error.
func do[In, Out any](ctx context.Context, c *conn, r request, send rpc.Unary[In, Out], in In) (Out, error) {
	out, _, err := doubtful(ctx, c, r, send, in)
	return out, err
}

// doubtful is do, and also reports whether an attempt before the one that counts may have
// been applied.
func doubtful[In, Out any](ctx context.Context, c *conn, r request, send rpc.Unary[In, Out], in In) (out Out, before bool, err error) {
	if err := c.admit(ctx); err != nil {
		return out, false, r.fail(err)
	}
	if r.write {
		if r.fenced, err = c.fenced(ctx, in); err != nil {
			return out, false, r.fail(err)
		}
	}
	var from rpc.Mark
	if r.fenced != nil {
		from = c.rpc.Seen.Mark()
		var release context.CancelFunc
		ctx, release = r.fenced.fences.outlasting(ctx)
		defer release()
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	var report rpc.Report
	if len(c.cfg.Hooks) == 0 {
		out, report, _ = carry(ctx, c, &r, send, in)
		err = c.failure(&r, report, in)
	} else {
		out, report, err = observed(ctx, c, r, send, in)
	}
	if err != nil && r.fenced != nil {
		out, err = applied[Out](ctx, r, in, from, err)
	}
	return out, report.MaybeApplied, err
}

// observed is do for a client with hooks.
func observed[In, Out any](ctx context.Context, c *conn, r request, send rpc.Unary[In, Out], in In) (Out, rpc.Report, error) {
	h := hooked{hooks: c.cfg.Hooks, info: RequestInfo{Op: r.op, Key: r.key, Write: r.write}, guard: c.hookGuard(ctx)}
	h.result.Err = r.fail(errHookPanicked) // unless it comes further
	defer h.after()
	ctx = h.before(ctx)
	began := time.Now()
	out, report, together := carry(ctx, c, &r, send, in)
	err := c.failure(&r, report, in)
	h.result = ResultInfo{Attempts: report.Attempts, Duration: time.Since(began), Batch: together, Err: err}
	return out, report, err
}

// failure returns the error of the request in by its report, or nil if it did not fail.
func (c *conn) failure(r *request, report rpc.Report, in any) error {
	if report.Err == nil {
		return nil
	}
	e := &Error{Op: r.op, Key: r.key, Sent: report.Sent, MaybeApplied: report.MaybeApplied, Err: report.Err}
	if e.MaybeApplied {
		e.lost = c.lose(in, r.seals)
	}
	return e
}

// hookGuard returns the function that calls hooks. It logs a panic if nobody waits for the
// request.
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
