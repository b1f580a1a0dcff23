package mirror

import (
	"context"
	"iter"

	"github.com/blueprint-go/etcd"
)

// ChangeType says what happened to a key.
type ChangeType int

const (
	// Ended says that nothing happened and no more changes follow: Err is why.
	Ended ChangeType = iota
	// Created says that there is a key that was not there before.
	Created
	// Updated says that the value of a key, or its lease, was put again.
	Updated
	// Deleted says that a key is gone.
	Deleted
)

// String returns "ended", "created", "updated" or "deleted".
func (t ChangeType) String() string {
	switch t {
	case Created:
		return "created"
	case Updated:
		return "updated"
	case Deleted:
		return "deleted"
	default:
		return "ended"
	}
}

// Change is a change of one key. Values are shared: don't modify them.
type Change struct {
	// Type says what happened.
	Type ChangeType
	// Key is the key.
	Key string
	// Old is the key-value before the change; the zero KeyValue if there was none. Its
	// Value is nil if it could not be decoded.
	Old etcd.KeyValue
	// New is the key-value after the change; the zero KeyValue if the key was deleted.
	// Its Value is nil if it could not be decoded.
	New etcd.KeyValue
	// Revision is the revision of the change. If Resync is set, it is the one at which
	// the difference was found.
	Revision int64
	// More reports whether further changes of this revision follow. Those of a revision
	// come one after the other; what belongs together can be taken over when the last one
	// has come.
	More bool
	// Resync reports whether the change was found by comparing states and not told by an
	// event: changes in between were left out.
	Resync bool
	// Expired reports whether the key was deleted and the lease that it had been attached
	// to is gone, with [WithExpiry] only: it expired or was revoked.
	Expired bool
	// Err is why the new value could not be decoded. With [Ended] it is why there are no
	// more changes.
	Err error
}

// Changes returns the changes made after the call, with the values before and after, in
// order, each exactly once and all of a revision together. When the body of the loop gets
// a change, reads of the mirror include it.
//
// Where events are missing, the differences take their place, marked as Resync, deletions
// with their old values among them: after a compaction or a restore, and for a reader that
// is behind. The changes that wait for it are bounded by [WithChangesBuffer]. When they
// exceed it, the reader gets those that wait, and then the differences between the state
// after them and the one at that moment. So a slow reader misses intermediate values, but
// no final one, and delays nobody.
//
// The loop ends when ctx does. When the mirror or its client is closed, the last change is
// [Ended] with [etcd.ErrClosed]; for a nil context, a nil option or a bad one it is the
// only change. What is returned is for one loop: a further one gets nothing. Until the
// loop is left or ctx ends, changes are kept for it, also if it is never begun.
//
// The body runs in the caller's goroutine. It may use and close the mirror.
func (m *Mirror) Changes(ctx context.Context, opts ...ChangesOption) iter.Seq[Change] {
	r, err := m.newReader(ctx, opts)
	return func(yield func(Change) bool) {
		why := err
		if why == nil {
			why = r.run(func(rec record) bool { return yield(rec.change()) })
		}
		if why != nil {
			yield(Change{Err: m.fail(opChanges, why)})
		}
	}
}

const opChanges = "changes of mirror"

// change returns the change of a record.
func (r *record) change() Change {
	out := Change{Type: r.kind(), Revision: r.revision, More: r.more, Resync: r.found, Expired: r.expired}
	if r.old != nil {
		out.Key, out.Old = r.old.kv.Key, r.old.kv
	}
	if r.new != nil {
		out.Key, out.New, out.Err = r.new.kv.Key, r.new.kv, r.new.failure()
	}
	return out
}
