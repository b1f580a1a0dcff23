package etcd

import (
	"context"
	"iter"
)

// TypedEvent is a change of one name.
type TypedEvent[T any] struct {
	// Type says what happened.
	Type EventType
	// TypedValue is the value after the change. A delete has no Value; its
	// ModRevision is the revision of the delete.
	TypedValue[T]
	// State is [WatchEvents] unless [WithWatchStatus] or [WithResync] was given. With any
	// other state
	// this is not a change: Name and Value are empty, and ModRevision is the revision up
	// to which everything was delivered.
	State WatchState
	// Cause is why the watch is interrupted, with [WatchInterrupted], or what was lost, with
	// [WatchResynced].
	Cause error
	// CompactRevision is set in the last pair if its error is [ErrCompacted]: the oldest
	// revision that a new watch can start from. See [Typed.Range].
	CompactRevision int64
}

// Watch delivers the changes of all names one by one, like [Client.WatchPrefix]. As in
// [Typed.All], an error that matches [*DecodeError] concerns one value, whose event comes
// with it and has no Value; the others follow. Any other error ends the watch and comes
// as the last pair; that may be the end of ctx.
//
// It begins when it is ranged over, or at the revision of [WithRevision]; leaving the loop
// ends it. An empty prefix needs [WithAllKeys]. [WithPrevKV] and [WithProgressNotify] add
// nothing; [WithWatchStatus] adds pairs that report the watch's state, and [WithResync] one
// before the values that exist, see [TypedEvent]. Taking a lock under the prefix is not an
// event; its release may come as the deletion of a name that was never put.
func (t *Typed[T]) Watch(ctx context.Context, opts ...WatchOption) iter.Seq2[TypedEvent[T], error] {
	return func(yield func(TypedEvent[T], error) bool) {
		if err := t.check("watch", ""); err != nil {
			yield(TypedEvent[T]{}, err)
			return
		}
		for resp, err := range t.client.responses(ctx, t.prefix, opts) {
			if resp.State != WatchEvents {
				state := TypedEvent[T]{State: resp.State, Cause: resp.Cause}
				state.ModRevision = resp.Revision
				if !yield(state, nil) {
					return
				}
			}
			for _, ev := range resp.Events {
				if ev.claim {
					continue
				}
				if !yield(t.event(ev)) {
					return
				}
			}
			if err != nil {
				yield(TypedEvent[T]{CompactRevision: resp.CompactRevision}, err)
			}
		}
	}
}

func (t *Typed[T]) event(ev *Event) (out TypedEvent[T], err error) {
	out.Type = ev.Type
	out.Name, out.ModRevision = ev.Kv.Key[len(t.prefix):], ev.Kv.ModRevision
	switch {
	case ev.Type == EventDelete:
	case ev.Kv.Value == nil:
		err = ev.Err
	default:
		out.TypedValue, err = t.unmarshal(*ev.Kv)
	}
	return out, answered("watch", ev.Kv.Key, err)
}
