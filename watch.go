package etcd

import (
	"context"
	"fmt"
)

// Watch delivers the changes of key, from now on or with [WithRevision] from a
// revision on, until ctx ends, the client is closed or the watch fails. Every
// change is delivered exactly once and in order, across reconnects too.
//
// No change made after Watch has returned is missed. It returns when the server has
// registered the watch, which takes a round trip, or when [Config.RequestTimeout] has
// passed. At half of that time a linearizable read fixes the revision that the
// watch begins after; with [WithRevision] it is fixed already. If that read fails
// too, the watch begins after the newest revision that the client has seen: it may
// deliver changes from before the call, and it ends with [ErrCompacted] when changes
// since that revision were compacted before it could be registered. Only a client with
// [Config.LazyConnect] that no server has answered yet has seen none; its watch
// delivers what happens after the first answer to any of its requests.
//
// The last response holds the error when the watch fails; when ctx ends, the
// channel is closed without one; when the client is closed, [ErrClosed] takes the
// place of what was not read yet. The watch holds its resources until it ends:
// cancel ctx when it is no longer needed.
//
// A consumer that reads slowly slows down its own watch only. About 1 MiB waits for
// it in the process, the rest on the server. The watches of a client share up to 4
// HTTP/2 streams, and up to 16 whose consumers are behind have one each; gRPC
// metadata in ctx is not sent. A response of the server holds up to 1000 revisions
// and is read at once, up to 32 MiB of it if the values are large.
//
// While nothing happens a watch knows from the server how far it has seen, at least
// every ten minutes and on etcd 3.4.31, 3.5.13 and later about every second, so that
// a compaction does not end it when it reconnects. A watch of a single key that has
// not changed since goes on behind any compaction.
//
// Where the cluster was restored to an older revision, or is another one, the watch
// ends with [ErrRevisionRegressed] when it reconnects, unless as many changes were
// made by then as had been lost: revisions show no more than that.
//
// A watch goes on delivering after the permission to read the key was taken
// away; the server checks it when the watch is registered.
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
		w.told = c.newWatchStatus(prefix)
		waiting, registered := context.WithCancel(ctx)
		defer registered()
		w.registered = registered
		if err = w.begin(ctx, out); err == nil {
			w.await(waiting)
			return out
		}
	}
	out <- WatchResponse{err: fail("watch", key, err)}
	close(out)
	return out
}

func (c *Client) newWatcher(ctx context.Context, key string, prefix bool, opts []WatchOption) (*watcher, error) {
	if err := c.admit(ctx); err != nil {
		return nil, err
	}
	w := &watcher{conn: c.conn, hub: c.watches, key: key, patience: newPatience(c.cfg.RequestTimeout)}
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
	w.keys, err = c.keyOrPrefix(key, prefix)
	return w, err
}
