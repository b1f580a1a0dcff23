package etcd

import (
	"context"
	"fmt"
	"time"
)

// WatchChan delivers the responses of a watch. It is closed when the watch ends.
type WatchChan <-chan WatchResponse

// WatchResponse is a batch of events, or the end of a watch.
type WatchResponse struct {
	// Events are changes in the order in which they happened, all of a revision
	// together. A batch may hold several revisions and several changes of one
	// key.
	Events []*Event
	// Revision is the revision up to which the watch has seen everything.
	Revision int64
	// CompactRevision is set when Err is [ErrCompacted]: the oldest revision
	// that a new watch can start from.
	CompactRevision int64

	err error
}

// Err returns why the watch ended; nil for a batch of events. A response with an
// error is the last one. The reasons are [ErrCompacted], [ErrPermissionDenied],
// [ErrUnauthenticated], [ErrAuthFailed], [ErrClosed] and [ErrServer]; whatever
// heals by itself (a lost connection, a lost leader, an expired token) does not end
// a watch.
func (r WatchResponse) Err() error { return r.err }

// Watch delivers the changes of key, from now on or with [WithRevision] from a
// revision on, until ctx ends, the client is closed or the watch fails. Every
// change is delivered exactly once and in order, across reconnects too.
//
// It returns when the server has registered the watch, so that no change made
// afterwards is missed; if no server can be reached within
// [Config.RequestTimeout] it returns and goes on trying.
//
// The last response holds the error when the watch fails; when ctx ends, the
// channel is closed without one; when the client is closed, [ErrClosed] takes the
// place of what was not read yet. A consumer that reads slowly slows down its own
// watch only: what it has not read waits on the server. The watch holds its
// resources until it ends: cancel ctx when it is no longer needed.
//
// A watch goes on delivering after the permission to read the key was taken
// away; the server checks it once.
func (c *Client) Watch(ctx context.Context, key string, opts ...WatchOption) WatchChan {
	return c.watch(ctx, key, false, opts)
}

// WatchPrefix is [Client.Watch] for all keys that begin with prefix. The empty
// prefix is refused with [ErrEmptyPrefix] unless [WithAllKeys] is given.
func (c *Client) WatchPrefix(ctx context.Context, prefix string, opts ...WatchOption) WatchChan {
	return c.watch(ctx, prefix, true, opts)
}

func (c *Client) watch(ctx context.Context, key string, prefix bool, opts []WatchOption) WatchChan {
	// One place is enough for the last response, so that a watch can end
	// without a reader.
	out := make(chan WatchResponse, 1)
	w, err := c.newWatcher(ctx, key, prefix, opts)
	if err == nil {
		registered := make(chan struct{})
		w.registered = func() { close(registered) }
		err = c.start(func() {
			defer close(out)
			err := w.run(ctx, func(r WatchResponse) bool {
				select {
				case out <- r:
					return true
				case <-ctx.Done():
				case <-c.closing:
				}
				return false
			})
			w.end(ctx, out, err)
		})
		if err == nil {
			w.await(ctx, registered)
			return out
		}
	}
	out <- WatchResponse{err: fail("watch", key, err)}
	close(out)
	return out
}

// await waits until the watch is registered, has failed, or RequestTimeout has
// passed.
func (w *watcher) await(ctx context.Context, registered <-chan struct{}) {
	timer := time.NewTimer(w.client.cfg.RequestTimeout)
	defer timer.Stop()
	select {
	case <-registered:
	case <-timer.C:
	case <-ctx.Done():
	case <-w.client.closing:
	}
}

// end delivers the last response.
func (w *watcher) end(ctx context.Context, out chan WatchResponse, err error) {
	if ctx.Err() != nil {
		return
	}
	last := WatchResponse{
		Revision:        max(w.next-1, 0),
		CompactRevision: w.compacted,
		err:             &Error{Op: "watch", Key: w.key, Sent: true, Err: err},
	}
	select {
	case out <- last:
	case <-ctx.Done():
	case <-w.client.closing:
		// Close waits for this: a consumer that is gone must not hold it up. The
		// place is free then, since nobody else sends.
		select {
		case unread := <-out:
			last.Revision = unread.before()
		default:
		}
		out <- last
	}
}

// before returns the revision up to which a watch had seen everything before r.
func (r WatchResponse) before() int64 {
	if len(r.Events) > 0 {
		return r.Events[0].Kv.ModRevision - 1
	}
	return r.Revision
}

func (c *Client) newWatcher(ctx context.Context, key string, prefix bool, opts []WatchOption) (*watcher, error) {
	if err := c.admit(ctx); err != nil {
		return nil, err
	}
	w := &watcher{client: c, key: key, patience: newPatience(c.cfg.RequestTimeout)}
	if err := optionsOf(opts, &w.opts, WatchOption.applyWatch); err != nil {
		return nil, err
	}
	if w.opts.revision < 0 {
		return nil, fmt.Errorf("%w: negative revision", ErrInvalidArgument)
	}
	if prefix && key == "" && !w.opts.allKeys {
		return nil, ErrEmptyPrefix
	}
	w.next = w.opts.revision
	var err error
	w.keys, err = c.keys(key, prefix)
	return w, err
}
