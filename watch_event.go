package etcd

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// WatchResponse is a batch of events, or the end of a watch.
type WatchResponse struct {
	// Events are changes in the order in which they happened, with all changes of a
	// revision together. A batch may hold several revisions and several changes of one
	// key.
	Events []*Event
	// Revision is the revision up to which the watch has seen everything.
	Revision int64
	// CompactRevision is set if Err is [ErrCompacted]: the oldest revision that a new
	// watch can start from.
	CompactRevision int64
	// State is [WatchEvents] unless [WithWatchStatus] or [WithResync] was given.
	State WatchState
	// Cause is why the watch is interrupted, with [WatchInterrupted], or what was lost, with
	// [WatchResynced].
	Cause error

	err error
}

// Err returns why the watch ended; nil for a batch of events. A response with an error is
// the last one. The reasons are [ErrCompacted], [ErrRevisionRegressed],
// [ErrPermissionDenied], [ErrUnauthenticated], [ErrAuthFailed], [ErrClosed] and
// [ErrServer]. What passes by itself (a lost connection, a lost leader, an expired token)
// does not end a watch.
func (r WatchResponse) Err() error { return r.err }

// before returns the revision up to which a watch had seen everything before r.
func (r WatchResponse) before() int64 {
	if len(r.Events) > 0 {
		return r.Events[0].Kv.ModRevision - 1
	}
	return r.Revision
}

// WatchChan delivers the responses of a watch. It is closed when the watch ends.
type WatchChan <-chan WatchResponse

// EventType says what happened to a key.
type EventType int

const (
	// EventPut says that a key was created or changed.
	EventPut EventType = iota
	// EventDelete says that a key was deleted, or expired with its lease.
	EventDelete
)

// String returns "PUT" or "DELETE".
func (t EventType) String() string {
	if t == EventDelete {
		return "DELETE"
	}
	return "PUT"
}

// Event is a change of one key.
type Event struct {
	// Type says what happened.
	Type EventType
	// Kv is the key-value after the change; never nil. For a delete it holds the key and,
	// as ModRevision, the revision of the delete. Its Value is nil for a delete, and if
	// it could not be decoded.
	Kv *KeyValue
	// PrevKv is the key-value before the change, if [WithPrevKV] asked for it. It is nil
	// if there was none, or if it was compacted or undecodable.
	PrevKv *KeyValue
	// Err is a [*DecodeError] if the value, or the one before it, could not be decoded.
	// If its encryption key was unavailable at the moment, Err matches
	// [ErrKeyUnavailable] instead, and [IsRetryable] reports true for it: the value can
	// be read later, by [Client.Get], or by a watch [WithRevision] of Kv.ModRevision. For
	// all its events together a watch waits a second for such keys, plus a tenth of the
	// time that passes. The other events are not affected.
	Err error

	claim bool             // of a lock, whose value is nobody's
	raw   *mvccpb.KeyValue // what is stored, if the watch wants that
}

// IsCreate reports whether the event created its key.
func (e *Event) IsCreate() bool {
	return e.Type == EventPut && e.Kv.CreateRevision == e.Kv.ModRevision
}

// IsClaim reports whether the event is about the claim of a lock (see [Lock]), which is no
// value of anybody's. That a deletion is about one is known only [WithPrevKV].
func (e *Event) IsClaim() bool { return e.claim }

// event converts an event of the wire.
func (d *decoding) event(ev *mvccpb.Event) *Event {
	out := &Event{}
	deleted := ev.Type == mvccpb.Event_DELETE
	if deleted {
		out.Type = EventDelete
	}
	out.claim = !deleted && isClaim(ev.Kv) || ev.PrevKv != nil && isClaim(ev.PrevKv)
	kv, err := d.keyValue(ev.Kv, deleted || out.claim) // a delete has no value to decode
	if out.claim && !deleted {
		kv.Value = []byte{}
	}
	out.Kv, out.Err = &kv, err
	if ev.PrevKv != nil && !out.claim {
		prev, err := d.keyValue(ev.PrevKv, false)
		if err == nil {
			out.PrevKv = &prev
		}
		out.Err = joinUndecoded(out.Err, err)
	}
	return out
}

// prepareEvents is prepare for the events of a response.
func (d *decoding) prepareEvents(events []*mvccpb.Event) {
	if d.codec.provider == nil {
		return
	}
	kvs := make([]*mvccpb.KeyValue, 0, len(events))
	for _, ev := range events {
		if ev.Type != mvccpb.Event_DELETE {
			kvs = append(kvs, ev.Kv)
		}
		if ev.PrevKv != nil {
			kvs = append(kvs, ev.PrevKv)
		}
	}
	d.prepare(kvs)
}
