package etcd

import (
	"context"
	"fmt"
)

// Watch delivers the changes of key, from now on or from the revision of [WithRevision],
// until ctx ends, the client is closed or the watch fails. It delivers every change
// exactly once and in order, even across reconnects.
//
// It misses no change made after Watch has returned. Watch returns when the server has
// registered the watch, which takes a round trip, or when [Config.RequestTimeout] has
// passed. At half of that time a linearizable read fixes the revision that the watch
// begins after; with [WithRevision] it is already fixed. If that read fails too, the
// watch begins after the newest revision that the client has seen: it may deliver changes
// from before the call, and it ends with [ErrCompacted] if changes since that revision
// were compacted before it could be registered. A client has seen no revision only if it
// uses [Config.LazyConnect] and no server has answered it yet; then the watch delivers
// what happens after the first answer to any of its requests.
//
// If the watch fails, the last response holds the error. When ctx ends, the channel is
// closed without one; when the client is closed, [ErrClosed] replaces what was not read
// yet. The watch holds its resources until it ends: cancel ctx when you no longer need
// it.
//
// A slow consumer slows down only its own watch. About 1 MiB waits for it in the process
// (see [WithWatchBuffer]), the rest on the server. The watches of a client share up to 4
// HTTP/2 streams, and up to 16 whose consumers are behind have one each; gRPC metadata in
// ctx is not sent. A response of the server holds up to 1000 revisions and is read at once,
// up to 32 MiB of it if the values are large.
//
// While nothing happens, a watch learns from the server how far it has seen: at least
// every ten minutes, and about every second on etcd 3.4.31, 3.5.13 and later. So a
// compaction does not end it when it reconnects. A watch of a single key that has not
// changed since survives any compaction.
//
// If the cluster was restored to an older revision, or is another one, the watch ends
// with [ErrRevisionRegressed] when it reconnects, unless as many changes have been made
// by then as were lost: revisions show no more than that.
//
// A stream on which nothing comes for half of RequestTimeout is probed, and given up
// without an answer in the other half. So a watch does not wait, for longer than that and
// two seconds, for a member that hangs or a proxy that has lost it: it goes on where it
// was, on another member if there is one. A member that is cut off from its cluster ends
// its streams itself.
//
// A watch goes on delivering after the permission to read the key was taken away; the
// server checks it only when the watch is registered.
func (c *Client) Watch(ctx context.Context, key string, opts ...WatchOption) WatchChan {
	return c.watch(ctx, watchSubject{key: key}, opts)
}

// WatchPrefix is [Client.Watch] for all keys that begin with prefix. The empty prefix is
// refused with [ErrEmptyPrefix] unless [WithAllKeys] is given.
func (c *Client) WatchPrefix(ctx context.Context, prefix string, opts ...WatchOption) WatchChan {
	return c.watch(ctx, watchSubject{key: prefix, kind: watchPrefix}, opts)
}

// WatchRange is [Client.Watch] for all keys from start up to but not including end. An empty
// end means the end of all keys; an empty start as well needs [WithAllKeys].
func (c *Client) WatchRange(ctx context.Context, start, end string, opts ...WatchOption) WatchChan {
	return c.watch(ctx, watchSubject{key: start, end: end, kind: watchRange}, opts)
}

// RequestProgress asks how far the watches of this client that have [WithProgressNotify]
// have seen. It returns at once. Each of them delivers a response without events, with a
// Revision of at least revision, as soon as the server says so and everything up to it is
// delivered; a watch that is interrupted does so when it is resumed. Zero means whatever
// revision the server has.
//
//	revision, err := client.Revision(ctx)
//	…
//	err = client.RequestProgress(ctx, revision)
//	// The next progress of a watch shows that it has delivered every change before the call.
//
// It takes one message on each stream that watches share. While the member at the other end
// is behind the revision, or a watch on the stream catches up, the message is repeated, at
// first after 5 ms and then less and less often, up to once a second. Servers before 3.4.31
// and 3.5.13, and etcd's grpc-proxy, don't report progress in order: from them nothing comes.
//
// A negative revision fails with [ErrInvalidArgument]. Without such watches nothing is sent.
func (c *Client) RequestProgress(ctx context.Context, revision int64) error {
	const op = "request progress"
	if err := c.admit(ctx); err != nil {
		return fail(op, "", err)
	}
	if revision < 0 {
		return fail(op, "", fmt.Errorf("%w: negative revision", ErrInvalidArgument))
	}
	c.watches.requestProgress(revision)
	return nil
}

func (c *Client) watch(ctx context.Context, what watchSubject, opts []WatchOption) WatchChan {
	// One slot is enough for the last response, so that a watch can end without a reader.
	out := make(chan WatchResponse, 1)
	w, err := c.newWatcher(ctx, what, opts)
	if err == nil {
		w.told = c.newWatchStatus(what)
		waiting, registered := context.WithCancel(ctx)
		defer registered()
		w.registered = registered
		if err = w.begin(ctx, out); err == nil {
			w.await(waiting)
			return out
		}
	}
	out <- WatchResponse{err: fail("watch", what.key, err)}
	close(out)
	return out
}

func (c *Client) newWatcher(ctx context.Context, what watchSubject, opts []WatchOption) (*watcher, error) {
	if err := c.admit(ctx); err != nil {
		return nil, err
	}
	w := &watcher{conn: c.conn, hub: c.watches, key: what.key, patience: newPatience(c.cfg.RequestTimeout)}
	w.opts.buffer = watchQueueBytes
	if err := optionsOf(opts, &w.opts, WatchOption.applyWatch); err != nil {
		return nil, err
	}
	if err := w.opts.check(); err != nil {
		return nil, err
	}
	if what.isAll() && !w.opts.allKeys {
		return nil, ErrEmptyPrefix
	}
	if w.opts.resync {
		w.list = c.watchLister(what.key)
	}
	w.next = w.opts.revision
	var err error
	w.keys, err = what.in(c.namespace)
	return w, err
}
