package mirror

import (
	"iter"

	"github.com/blueprint-go/etcd"
)

// Snapshot is what a [Mirror] held at one revision. It never changes, costs nothing to
// take, and shares its memory with the mirror; what has changed since stays in memory for
// as long as it is held. Its methods take no lock, no request and no allocation, and are
// safe for concurrent use. The zero value is empty.
//
// The values are shared by all who read them: don't modify them.
type Snapshot struct{ state *state }

// Get returns a key-value, and whether the key exists. A key whose value could not be
// decoded counts as missing; [Mirror.Bad] lists it.
func (s Snapshot) Get(key string) (etcd.KeyValue, bool) {
	if s.state != nil {
		if e, ok := s.state.get(key); ok {
			return e.kv, true
		}
	}
	return etcd.KeyValue{}, false
}

// All returns the key-values in the order of their keys.
func (s Snapshot) All() iter.Seq[etcd.KeyValue] { return s.Range("", "") }

// Range returns the key-values from a key up to but not including another, in the order
// of their keys. An empty from means the first key, an empty to the end of all.
func (s Snapshot) Range(from, to string) iter.Seq[etcd.KeyValue] {
	return func(yield func(etcd.KeyValue) bool) {
		if s.state == nil {
			return
		}
		for e := range s.state.between(from, to) {
			if !yield(e.kv) {
				return
			}
		}
	}
}

// Len returns how many keys there are, without those whose values could not be decoded.
func (s Snapshot) Len() int {
	if s.state == nil {
		return 0
	}
	return s.state.len()
}

// Revision returns the revision of the store: the snapshot holds all changes up to it and
// none after it.
func (s Snapshot) Revision() int64 {
	if s.state == nil {
		return 0
	}
	return s.state.revision
}
