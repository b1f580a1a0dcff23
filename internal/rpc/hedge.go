package rpc

import (
	"context"
	"time"
)

// hedge is a second read beside one that has taken half of its time: the member may be
// silent, or just need that long. Whichever ends first counts, so that a slow answer is
// not given up for one that would be as slow.
type hedge[Out any] struct {
	done   chan struct{} // closed when the rest is set
	out    Out
	report Report
}

// hedged makes an attempt at a request. With several endpoints a read that takes more
// than half of the time that is left is made a second time beside it, on a connection
// that was not tried yet and with attempts of its own. If it is that one which counts
// it is returned.
func hedged[In, Out any](ctx context.Context, t *trace, send Unary[In, Out], in In) (out Out, sent bool, other *hedge[Out], err error) {
	left, ok := timeLeft(ctx)
	if !ok || left <= minSplit || !t.hedges() {
		out, sent, err = attempt(ctx, t, send, in)
		return out, sent, nil, err
	}
	whole := ctx
	ctx, cancel := context.WithCancel(whole)
	defer cancel()
	h := &hedge[Out]{done: make(chan struct{})}
	c, r := t.conn, t.request
	r.beside++
	// Owned by this call, which waits for it: it ends with ctx.
	timer := time.AfterFunc(left/2, func() {
		defer close(h.done)
		h.out, h.report = Do(ctx, c, r, send, in)
		cancel()
	})
	out, sent, err = attempt(ctx, t, send, in)
	if timer.Stop() {
		return out, sent, nil, err
	}
	if err == nil || whole.Err() == nil && !isContextStatus(err) && Interpret(err).Remedy == GiveUp {
		cancel() // the answer is there
		<-h.done
		return out, sent, nil, err
	}
	<-h.done
	if TimeIsUp(whole) && h.report.Err != nil {
		return out, sent, nil, err
	}
	return out, sent, h, nil
}

// hedges reports whether the request is a read that may be made once more at a time:
// no endpoint has to carry out two of them.
func (t *trace) hedges() bool {
	r := &t.request
	return !r.Write && !r.Single && r.beside+1 < t.conn.EndpointCount()
}
