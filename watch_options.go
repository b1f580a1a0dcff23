package etcd

import (
	"context"
)

// WatchOption changes [Client.Watch], [Client.WatchPrefix] and [Typed.Watch]. The options
// are [WithRevision], [WithPrevKV], [WithProgressNotify], [WithWatchStatus], [WithOnly]
// and [WithAllKeys].
type WatchOption interface{ applyWatch(*watchOptions) }

type watchOptions struct {
	revision int64
	prevKV   bool
	progress bool
	noPut    bool
	noDelete bool
	allKeys  bool
	status   bool
}

type progressOption struct{}

func (progressOption) applyWatch(o *watchOptions) { o.progress = true }

// WithProgressNotify delivers responses without events whose Revision shows up to where
// the watch is complete: about every second on etcd 3.4.31, 3.5.13 and later, and every
// ten minutes (a setting of the server) on others, while nothing happens. Until something
// is written anywhere in the cluster, a watch that begins behind its newest revision gets
// none. See also [Client.RequestProgress].
func WithProgressNotify() WatchOption { return progressOption{} }

type filterOption EventType

func (f filterOption) applyWatch(o *watchOptions) {
	if EventType(f) == EventPut {
		o.noDelete = true
	} else {
		o.noPut = true
	}
}

// WithOnly delivers events of one type only.
func WithOnly(t EventType) WatchOption { return filterOption(t) }

const (
	// WatchEvents means events, progress, or the end of the watch.
	WatchEvents WatchState = iota
	// WatchRegistered says that the server has registered the watch for the first time.
	// The watch begins after the response's Revision.
	WatchRegistered
	// WatchInterrupted says that the watch receives nothing for now; the response's Cause
	// says why. It continues where it was as soon as possible.
	WatchInterrupted
	// WatchResumed says that the server has registered the watch again. The changes made
	// meanwhile follow.
	WatchResumed
)

// WatchHook observes watches. If one of [Config.Hooks] has these methods, they are
// called: by many goroutines at once, but in order for each watch, which waits for them.
// ctx is the watch's.
type WatchHook interface {
	// WatchOpened is called when the server has registered a watch for the first time.
	WatchOpened(ctx context.Context, w WatchInfo)
	// WatchInterrupted is called when a watch receives nothing for now: it lost its
	// stream, or got no place on one within [Config.RequestTimeout].
	WatchInterrupted(ctx context.Context, w WatchInfo, cause error)
	// WatchResumed is called when the server has registered the watch after that. For a
	// watch that was never opened, WatchOpened is called instead.
	WatchResumed(ctx context.Context, w WatchInfo)
	// WatchEnded is called once for each watch that was begun, opened or not. err is nil
	// if its context ended; otherwise it is the error of the last response.
	WatchEnded(ctx context.Context, w WatchInfo, err error)
}

// WatchInfo describes a watch to a [WatchHook].
type WatchInfo struct {
	// Key is the key or prefix, without the namespace.
	Key string
	// Prefix reports whether it is a prefix.
	Prefix bool
	// Revision is the one up to which everything was delivered; zero while it is not
	// known.
	Revision int64
}

// WatchState says what a [WatchResponse] reports.
type WatchState int

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

// WithWatchStatus delivers a response without events whenever the state of the watch
// changes: see [WatchState]. Without it an interruption is only a pause. A watch waits
// for its consumer to take these, as it does with events.
func WithWatchStatus() WatchOption { return statusOption{} }

type statusOption struct{}

func (statusOption) applyWatch(o *watchOptions) { o.status = true }
