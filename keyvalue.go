package etcd

import (
	"fmt"
)

// KeyValue is a key with its value and what the server knows about it.
type KeyValue struct {
	// Key is the key without the namespace.
	Key string
	// Value is the decoded value. It is nil only for a key-value that was read without
	// its value (a keys-only read, a delete event) or could not be decoded. The caller
	// owns it.
	Value []byte
	// CreateRevision is the revision of the key's last creation.
	CreateRevision int64
	// ModRevision is the revision of the key's last change.
	ModRevision int64
	// Version counts the changes since the creation, which is 1.
	Version int64
	// Lease is the lease that the key is attached to; 0 means none.
	Lease LeaseID
}

// LeaseID identifies a lease. Zero means no lease.
type LeaseID int64

// Format implements [fmt.Formatter]: %s, %v and %q print String, every other verb prints
// the number.
func (id LeaseID) Format(f fmt.State, verb rune) {
	if verb == 's' || verb == 'q' || verb == 'v' && !f.Flag('#') {
		_, _ = fmt.Fprintf(f, fmt.FormatString(f, verb), id.String())
		return
	}
	_, _ = fmt.Fprintf(f, fmt.FormatString(f, verb), int64(id))
}

// String returns the ID in hexadecimal, as etcdctl prints it.
func (id LeaseID) String() string { return fmt.Sprintf("%016x", int64(id)) }
