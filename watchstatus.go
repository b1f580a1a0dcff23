package etcd

import (
	"context"
	"log/slog"
)

// WatchState says what a [WatchResponse] tells of.
type WatchState int

const (
	// WatchEvents tells of events, of progress, or of the end of the watch.
	WatchEvents WatchState = iota
	// WatchRegistered says that the server has registered the watch, the first
	// time. The response's Revision is the one that it begins after.
	WatchRegistered
	// WatchInterrupted says that the watch gets nothing for now, for the response's
	// Cause. It goes on where it was as soon as it can.
	WatchInterrupted
	// WatchResumed says that the server has registered the watch again. What
	// happened meanwhile follows.
	WatchResumed
)

// String returns "events", "registered", "interrupted" or "resumed".
func (s WatchState) String() string {
	switch s {
	case WatchRegistered:
		return "registered"
	case WatchInterrupted:
		return "interrupted"
	case WatchResumed:
		return "resumed"
	default:
		return "events"
	}
}

type statusOption struct{}

func (statusOption) applyWatch(o *watchOptions) { o.status = true }

// WithWatchStatus delivers a response without events whenever the state of the
// watch changes: see [WatchState]. Without it an interruption is only a pause. A
// watch waits for its consumer with these as it does with events.
func WithWatchStatus() WatchOption { return statusOption{} }

// WatchHook observes watches; one of [Config.Hooks] that has these methods gets
// them called. They are called by many goroutines at once, in order for each watch,
// which waits for them. ctx is that of the watch.
type WatchHook interface {
	// WatchOpened is called when the server has registered a watch the first time.
	WatchOpened(ctx context.Context, w WatchInfo)
	// WatchInterrupted is called when a watch gets nothing for now: it lost its
	// stream, or got no place on one within [Config.RequestTimeout].
	WatchInterrupted(ctx context.Context, w WatchInfo, cause error)
	// WatchResumed is called when the server has registered it after that. A watch
	// that was never opened is opened instead.
	WatchResumed(ctx context.Context, w WatchInfo)
	// WatchEnded is called once for each watch that was begun, opened or not. err
	// is nil when its context ended, else what the last response says.
	WatchEnded(ctx context.Context, w WatchInfo, err error)
}

// WatchInfo describes a watch to a [WatchHook].
type WatchInfo struct {
	// Key is the key or prefix, without the namespace.
	Key string
	// Prefix tells whether it is a prefix.
	Prefix bool
	// Revision is the one up to which everything was delivered; zero when it is
	// not known yet.
	Revision int64
}

// watchStatus tells those who want to know what becomes of a watch.
type watchStatus struct {
	hooks       []WatchHook
	prefix      bool
	opened      bool
	interrupted bool
}

func (c *conn) newWatchStatus(prefix bool) *watchStatus {
	s := &watchStatus{prefix: prefix}
	for _, h := range c.cfg.Hooks {
		if h, ok := h.(WatchHook); ok {
			s.hooks = append(s.hooks, h)
		}
	}
	return s
}

func (w *watcher) info() WatchInfo {
	return WatchInfo{Key: w.key, Prefix: w.told.prefix, Revision: max(w.next-1, 0)}
}

// isRegistered tells of a registration. It reports whether the consumer wants
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

// interrupted tells of an interruption, once until the watch is registered again.
// It reports whether the consumer wants more.
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

// ended tells of the end.
func (w *watcher) ended(ctx context.Context, err error) {
	if ctx.Err() != nil {
		err = nil
	}
	for _, h := range w.told.hooks {
		h.WatchEnded(ctx, w.info(), err)
	}
}
