package etcd

import (
	"context"
	"errors"
	"log/slog"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// resyncOption is [WithResync].
type resyncOption struct{}

func (resyncOption) applyWatch(o *watchOptions) { o.resync = true }

// WithResync keeps a watch going where it would end with [ErrCompacted] or
// [ErrRevisionRegressed], because what happened since its position is gone: it reads the
// keys that exist and delivers them in one response whose State is [WatchResynced], each as
// the event of its last put, with the revision at which all of them were read. Then it goes
// on behind that revision. Deletions are not in it: what you know and the response lacks is
// gone. All of it is in memory at once; the response is there, and empty, even if no key
// exists. With [WithOnly] deletions it has no events.
//
// Without it you choose yourself what to do about the gap. Package mirror keeps the state,
// and delivers the missed deletions too.
func WithResync() WatchOption { return resyncOption{} }

// lister reads the key-values of a range, all at one revision.
type lister func(ctx context.Context, rng keys.Range) (kvs []*mvccpb.KeyValue, revision int64, err error)

// watchLister returns the lister for the watch of a key.
func (c *Client) watchLister(key string) lister {
	return func(ctx context.Context, rng keys.Range) ([]*mvccpb.KeyValue, int64, error) {
		pages := c.newPager(request{op: "watch", key: key}, rng, pagerOptions{pinned: true})
		kvs, err := pages.all(ctx)
		return kvs, pages.revision, err
	}
}

// canResync reports whether a watch that lost its position for this reason goes on with
// what exists.
func (w *watcher) canResync(reason error) bool {
	return w.list != nil && (errors.Is(reason, ErrCompacted) || errors.Is(reason, ErrRevisionRegressed))
}

// resync delivers the keys that exist and moves the watch behind them. If they can't be
// read for the moment it changes nothing, so that the watch meets the reason again.
func (w *watcher) resync(ctx context.Context, reason error) error {
	kvs, revision, err := w.list(ctx, w.keys)
	switch {
	case err != nil && IsRetryable(err):
		if !w.interrupted(ctx, err) {
			return errStopped
		}
		return nil
	case err != nil:
		return err
	}
	var events []*mvccpb.Event
	if !w.opts.noPut {
		events = make([]*mvccpb.Event, len(kvs))
		for i, kv := range kvs {
			events[i] = &mvccpb.Event{Kv: kv}
		}
	}
	w.next, w.compacted, w.history = 0, 0, history{}
	out := w.decode(ctx, events)
	out.State, out.Revision, out.Cause = WatchResynced, revision, reason
	w.next = revision + 1
	w.history.saw(revision)
	w.conn.cfg.Logger.Info("etcd: watch is resynchronised", slog.String("key", w.key),
		slog.Int64("revision", revision), slog.Any("reason", reason))
	for _, h := range w.told.hooks {
		h.WatchResynced(ctx, w.info(), reason)
	}
	if !w.deliver(out) {
		return errStopped
	}
	return nil
}
