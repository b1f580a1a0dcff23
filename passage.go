package etcd

import (
	"context"

	"github.com/blueprint-go/etcd/internal/batch"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// joiner has requests travel together.
type joiner interface {
	// join takes a request to others, and returns when it has travelled with them, or is to
	// go by itself.
	join(ctx context.Context, in any, write bool, seals *sealedPut) passage
}

// passage is how a request travels.
type passage struct {
	// isOver says that the request has travelled: answer is that of the server, unless the
	// report has an error.
	isOver bool
	answer any
	report rpc.Report
	// together is how many travelled, this one included.
	together int
	// lane is where a request that goes by itself gives its place back when it is answered;
	// nil for none.
	lane  interface{ Leave(place batch.Place) }
	place batch.Place
}

// carry sends a request, bound to the locks that guard its context, with others where it may,
// and returns how many went together.
func carry[In, Out any](ctx context.Context, c *conn, r *request, send rpc.Unary[In, Out], in In) (out Out, report rpc.Report, together int) {
	if r.fenced == nil {
		return transport(ctx, c, r, send, in)
	}
	resp, report, together := transport(ctx, c, r, c.rpc.Txn, r.fenced.txn)
	if report.Err == nil {
		report.Err = r.fenced.judge(resp)
		report.Sent = true
	}
	if report.Err == nil {
		out, _ = r.fenced.unwrapped(in).(Out)
	}
	return out, report, together
}

// transport sends a request, with others where it may, and returns how many went together.
func transport[In, Out any](ctx context.Context, c *conn, r *request, send rpc.Unary[In, Out], in In) (out Out, report rpc.Report, together int) {
	if r.joins && c.joiner != nil {
		p := c.joiner.join(ctx, in, r.write, r.seals)
		if p.isOver {
			out, _ = p.answer.(Out)
			return out, p.report, p.together
		}
		if p.lane != nil {
			defer p.lane.Leave(p.place)
		}
	}
	out, report = rpc.Do(ctx, c.rpc, r.policy(), send, in)
	return out, report, 1
}
