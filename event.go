package etcd

import (
	"context"
	"errors"

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
	// decoded. The other events are not affected.
	Err error
}

// IsCreate reports whether the event created its key.
func (e *Event) IsCreate() bool {
	return e.Type == EventPut && e.Kv.CreateRevision == e.Kv.ModRevision
}

// event converts an event of the wire.
func (c *Client) event(ctx context.Context, ev *mvccpb.Event) *Event {
	out := &Event{}
	deleted := ev.Type == mvccpb.Event_DELETE
	if deleted {
		out.Type = EventDelete
	}
	kv, err := c.keyValue(ctx, ev.Kv, deleted) // a delete has no value to decode
	out.Kv, out.Err = &kv, err
	if ev.PrevKv != nil {
		prev, err := c.keyValue(ctx, ev.PrevKv, false)
		if err == nil {
			out.PrevKv = &prev
		}
		out.Err = errors.Join(out.Err, err)
	}
	return out
}
