package etcd

import (
	"context"
	"fmt"
)

// WatchOption changes [Client.Watch], [Client.WatchPrefix], [Client.WatchRange],
// [Client.Events] and [Typed.Watch]. The options are [WithRevision], [WithPrevKV],
// [WithProgressNotify], [WithWatchStatus], [WithResync], [WithWatchBuffer], [WithOnly] and
// [WithAllKeys]. Of options that contradict each other, such as [WithOnly] puts and deletes,
// the call fails with [ErrInvalidArgument].
type WatchOption interface{ applyWatch(*watchOptions) }

type watchOptions struct {
	revision int64
	prevKV   bool
	progress bool
	noPut    bool
	noDelete bool
	allKeys  bool
	status   bool
	resync   bool
	buffer   int
	badType  bool
	raw      bool // events bear what is stored, for the library's own keys
}

// check returns why a watch can't have these options, or nil.
func (o watchOptions) check() error {
	var reason string
	switch {
	case o.revision < 0:
		reason = "negative revision"
	case o.badType:
		reason = "unknown type of event"
	case o.noPut && o.noDelete:
		reason = "only puts, and only deletes"
	case o.buffer <= 0:
		reason = "watch buffer without room"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", ErrInvalidArgument, reason)
}

type watchBufferOption int

func (n watchBufferOption) applyWatch(o *watchOptions) { o.buffer = int(n) }

// WithWatchBuffer says how many bytes of changes may wait in the process for a consumer that
// is behind; 1 MiB if it isn't given, and 64 MiB for all watches of a client together. There
// is always room for one response. The rest waits on the server: a watch that is further
// behind leaves the stream that it shares, and goes on from its position on one of its own.
func WithWatchBuffer(bytes int) WatchOption { return watchBufferOption(bytes) }

type progressOption struct{}

func (progressOption) applyWatch(o *watchOptions) { o.progress = true }

// WithProgressNotify delivers responses without events whose Revision shows up to where
// the watch is complete: about every second on etcd 3.4.31, 3.5.13 and later, and every
// ten minutes (a setting of the server) on others, while nothing happens. A watch that begins
// after the newest revision gets it about every half of [Config.RequestTimeout] until something
// is written anywhere in the cluster. See also [Client.RequestProgress].
func WithProgressNotify() WatchOption { return progressOption{} }

type filterOption EventType

func (f filterOption) applyWatch(o *watchOptions) {
	switch EventType(f) {
	case EventPut:
		o.noDelete = true
	case EventDelete:
		o.noPut = true
	default:
		o.badType = true
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
	// WatchResynced says that the response's Events are not changes but the keys that exist,
	// because changes were lost to a compaction or a restore; the response's Cause says to
	// which. Only [WithResync] brings it.
	WatchResynced
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
	// WatchResynced is called when a watch [WithResync] has lost changes, for the given
	// reason, and has read the keys that exist instead.
	WatchResynced(ctx context.Context, w WatchInfo, reason error)
	// WatchEnded is called once for each watch that was begun, opened or not. err is nil
	// if its context ended; otherwise it is the error of the last response.
	WatchEnded(ctx context.Context, w WatchInfo, err error)
}

// WatchInfo describes a watch to a [WatchHook].
type WatchInfo struct {
	// Key is the key, the prefix or the start of the range, without the namespace.
	Key string
	// Prefix reports whether it is a prefix.
	Prefix bool
	// Range reports whether it is a range, up to End.
	Range bool
	// End is the end of the range; empty means the end of all keys.
	End string
	// Revision is the one up to which everything was delivered; zero while it is not
	// known.
	Revision int64
}

// WatchState says what a [WatchResponse] reports.
type WatchState int

// String returns "events", "registered", "interrupted", "resumed" or "resynced".
func (s WatchState) String() string {
	switch s {
	case WatchRegistered:
		return "registered"
	case WatchInterrupted:
		return "interrupted"
	case WatchResumed:
		return "resumed"
	case WatchResynced:
		return "resynced"
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
