package etcd

import (
	"bytes"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// lostWrite is what is kept of a write without an answer. It is never printed.
type lostWrite struct {
	witnesses []witness
	mark      rpc.Mark // of the history that it was made in
}

// witness is a key by which a lost write can be told, and how the write would have
// changed it.
type witness struct {
	key     []byte
	deletes bool
	stored  []byte // unless it deletes
	// earlier is what else attempts may have stored: the same value, sealed with an
	// older key.
	earlier [][]byte
	// lease is that of the put; keepsLease says that it leaves the lease that the key
	// has.
	lease      int64
	keepsLease bool
	// since is the mod revision of the key that the whole write was bound to; 0 if
	// it was bound to none.
	since int64
	// creates says that it was bound to the absence of the key.
	creates bool
}

// made reports whether the write makes kv what it is. before is the version before it,
// nil for none.
func (w *witness) made(kv, before *mvccpb.KeyValue) bool {
	lease := w.lease
	if w.keepsLease {
		lease = before.GetLease()
	}
	return kv.Lease == lease && w.wrote(kv.Value)
}

// wrote reports whether the write makes a stored value what it is.
func (w *witness) wrote(stored []byte) bool {
	is := func(sent []byte) bool { return bytes.Equal(stored, sent) }
	return !w.deletes && (is(w.stored) || slices.ContainsFunc(w.earlier, is))
}
