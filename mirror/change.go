package mirror

import (
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
	// Revision is the revision of the change. If Resync is set, it is the one at which the
	// difference was found; for a key of [WithExisting] the one at which the loop began,
	// and New.ModRevision that of the key's last change.
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
