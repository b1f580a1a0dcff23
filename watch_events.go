package etcd

import (
	"context"
	"fmt"
	"iter"
)

// Events delivers the changes of the keys that begin with prefix one by one, for a loop:
//
//	for event, err := range client.Events(ctx, "/app/", etcd.WithRevision(list.Revision+1)) {
//		if event == nil {
//			return err // the watch has ended
//		}
//		…
//	}
//
// It is [Client.WatchPrefix] otherwise. The watch begins when the loop does, at the revision
// of [WithRevision] if there is one; leaving the loop ends it and leaves nothing behind. It
// may be ranged over again, and by several goroutines, each with a watch of its own.
//
// An error with an event is that event's Err: it concerns one value, and the others follow.
// An error without one is the last pair and says why the watch has ended: as in
// [WatchResponse.Err], or that ctx has. Events takes the options of a watch, except those
// that add something other than events, [WithProgressNotify], [WithWatchStatus] and
// [WithResync], which it refuses with [ErrInvalidArgument]; a [WatchHook] sees the states.
func (c *Client) Events(ctx context.Context, prefix string, opts ...WatchOption) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		var o watchOptions
		err := optionsOf(opts, &o, WatchOption.applyWatch)
		if err == nil && (o.progress || o.status || o.resync) {
			err = fmt.Errorf("%w: Events takes none of WithProgressNotify, WithWatchStatus and WithResync; WatchPrefix does", ErrInvalidArgument)
		}
		if err != nil {
			yield(nil, fail("watch", prefix, err))
			return
		}
		for resp, err := range c.responses(ctx, prefix, opts) {
			for _, ev := range resp.Events {
				if !yield(ev, ev.Err) {
					return
				}
			}
			if err != nil {
				yield(nil, err)
			}
		}
	}
}

// responses delivers the responses of a watch, and last why it has ended: by its context,
// if by nothing else.
func (c *Client) responses(ctx context.Context, prefix string, opts []WatchOption) iter.Seq2[WatchResponse, error] {
	return func(yield func(WatchResponse, error) bool) {
		if err := c.admit(ctx); err != nil { // a nil ctx can't have a child
			yield(WatchResponse{}, fail("watch", prefix, err))
			return
		}
		watching, cancel := context.WithCancel(ctx)
		defer cancel()
		for resp := range c.WatchPrefix(watching, prefix, opts...) {
			if !yield(resp, resp.Err()) || resp.Err() != nil {
				return
			}
		}
		yield(WatchResponse{}, fail("watch", prefix, context.Cause(ctx)))
	}
}
