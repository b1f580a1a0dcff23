package etcd

import (
	"context"
	"log/slog"
)

// watchStatus reports the state of a watch to hooks and to the consumer.
type watchStatus struct {
	hooks       []WatchHook
	what        watchSubject
	opened      bool
	interrupted bool
}

func (c *conn) newWatchStatus(what watchSubject) *watchStatus {
	s := &watchStatus{what: what}
	for _, h := range c.cfg.Hooks {
		if h, ok := h.(WatchHook); ok {
			s.hooks = append(s.hooks, h)
		}
	}
	return s
}

func (w *watcher) info() WatchInfo {
	what := w.told.what
	return WatchInfo{Key: what.key, Prefix: what.kind == watchPrefix, Range: what.kind == watchRange, End: what.end, Revision: max(w.next-1, 0)}
}

// isRegistered reports a registration to them. It returns whether the consumer wants
// more.
func (w *watcher) isRegistered(ctx context.Context) bool {
	s := w.told
	if s == nil || s.opened && !s.interrupted {
		return true
	}
	state := WatchResumed
	if !s.opened {
		state = WatchRegistered
	}
	s.opened, s.interrupted = true, false
	for _, h := range s.hooks {
		if state == WatchRegistered {
			h.WatchOpened(ctx, w.info())
		} else {
			h.WatchResumed(ctx, w.info())
		}
	}
	w.conn.cfg.Logger.Debug("etcd: watch is "+state.String(), slog.String("key", w.key), slog.Int64("revision", w.next-1))
	return !w.opts.status || w.deliver(WatchResponse{State: state, Revision: w.next - 1})
}

// interrupted reports an interruption to them, once until the watch is registered again.
// It returns whether the consumer wants more.
func (w *watcher) interrupted(ctx context.Context, cause error) bool {
	s := w.told
	if s == nil || s.interrupted {
		return true
	}
	s.interrupted = true
	cause = &Error{Op: "watch", Key: w.key, Sent: s.opened, Err: cause}
	for _, h := range s.hooks {
		h.WatchInterrupted(ctx, w.info(), cause)
	}
	w.conn.cfg.Logger.Debug("etcd: watch is interrupted", slog.String("key", w.key), slog.Any("error", cause))
	return !w.opts.status || w.deliver(WatchResponse{State: WatchInterrupted, Cause: cause, Revision: max(w.next-1, 0)})
}

// ended reports the end to the hooks.
func (w *watcher) ended(ctx context.Context, err error) {
	if w.told == nil {
		return
	}
	if ctx.Err() != nil {
		err = nil
	}
	for _, h := range w.told.hooks {
		h.WatchEnded(ctx, w.info(), err)
	}
}
