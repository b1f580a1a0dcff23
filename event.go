package etcd

import (
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// EventType says what happened to a key.
type EventType int

const (
	// EventPut says that a key was created or changed.
	EventPut EventType = iota
	// EventDelete says that a key was deleted, or ended with its lease.
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
	// Kv is the key-value after the change; never nil. For a delete it holds
	// the key and, as ModRevision, the revision of the delete. Its Value is nil
	// for a delete and where it could not be decoded.
	Kv *KeyValue
	// PrevKv is the key-value before the change, if [WithPrevKV] asked for it
	// and it was neither missing nor compacted nor undecodable.
	PrevKv *KeyValue
	// Err is a [*DecodeError] when the value, or the one before it, could not be
	// decoded. When its key could not be had at the moment, Err matches
	// [ErrKeyUnavailable] instead, and [IsRetryable] is true of it: the value can be
	// read later, by [Client.Get], or by a watch [WithRevision] of Kv.ModRevision. A
	// watch waits a second for such keys, and a tenth of the time that passes, for all
	// its events together. The other events are not affected.
	Err error

	claim bool // of a lock, which has no value to decode
}

// IsCreate reports whether the event created its key.
func (e *Event) IsCreate() bool {
	return e.Type == EventPut && e.Kv.CreateRevision == e.Kv.ModRevision
}

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
