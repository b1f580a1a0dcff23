package mirror

import (
	"bytes"

	"github.com/blueprint-go/etcd"
)

// entry is a key with what is known of it. Once it is in a state, it never changes.
type entry struct {
	hash uint64
	kv   etcd.KeyValue
	// extra is nil, an undecodable, or what a typed mirror has made of the value. One
	// field for both keeps an entry within 96 bytes.
	extra any
}

// undecodable is the extra of an entry whose value could not be decoded.
type undecodable struct{ err error }

// failure returns why the value could not be decoded; nil if it could be.
func (e *entry) failure() error {
	if bad, ok := e.extra.(undecodable); ok {
		return bad.err
	}
	return nil
}

// isGood reports whether readers see the entry.
func (e *entry) isGood() bool {
	if e.extra == nil {
		return true
	}
	_, bad := e.extra.(undecodable)
	return !bad
}

// equals reports whether readers see no difference between the entries of a key. After a
// restore, equal revisions don't mean equal values.
func (e *entry) equals(other *entry) bool {
	a, b := e.kv, other.kv
	return a.ModRevision == b.ModRevision && a.CreateRevision == b.CreateRevision && a.Version == b.Version &&
		a.Lease == b.Lease && e.isGood() == other.isGood() && bytes.Equal(a.Value, b.Value)
}
