package etcd

import (
	"context"
	"errors"
)

// An idle watch would mostly consist of its goroutine's stack. So a watch that is
// registered on a shared stream and has nothing to deliver rests: its goroutine ends, and
// whoever has something for it starts another one that continues. rpc.Conn.Retain makes Close
// wait for the watch whether it rests or not.

// errResting says that the goroutine of a watch ends but the watch doesn't. By then the
// watch may already belong to another goroutine.
var errResting = errors.New("watch is resting")

// begin runs the watch in the background until it ends, and then closes out.
func (w *watcher) begin(ctx context.Context, out chan WatchResponse) error {
	if err := w.conn.rpc.Retain(); err != nil {
		return err
	}
	w.prepare(w.deliverTo(ctx, out))
	w.goOn = func() {
		rests := false
		defer func() { // also if a hook ends the goroutine
			if !rests {
				w.nowRegistered()
				close(out)
				w.forget()
				w.conn.rpc.Release()
			}
		}()
		err := w.proceed(ctx)
		if rests = errors.Is(err, errResting); rests {
			return
		}
		w.nowRegistered()
		w.end(ctx, out, err)
	}
	w.forget = context.AfterFunc(ctx, w.signal) // once, since it takes memory and time
	go w.goOn()
	return nil
}

// rest reports whether the watch rests now, and the goroutine must end.
func (w *watcher) rest(ctx context.Context, r *registration) bool {
	s := r.stream
	s.mu.Lock()
	if len(r.responses) > 0 || r.err != nil {
		s.mu.Unlock()
		return false
	}
	w.resting.Store(true)
	s.mu.Unlock()
	// If ctx ended before, there was nobody to wake. The client ends all streams, and r
	// with them.
	return ctx.Err() == nil || !w.resting.CompareAndSwap(true, false)
}

// signal says that there is something for the watch, or that its context has ended.
func (w *watcher) signal() {
	if w.resting.CompareAndSwap(true, false) {
		go w.goOn()
		return
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
