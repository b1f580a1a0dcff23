package etcd

import (
	"bytes"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// lostWrite is what is kept of a write whose answer was lost. It is never printed.
type lostWrite struct {
	witnesses []witness
	mark      rpc.Mark // in the history that the write belongs to
}

// witness is a key that can reveal what became of a lost write, and how the write would
// have changed it.
type witness struct {
	key     []byte
	deletes bool
	stored  []byte // unless it deletes
	// earlier is what other attempts may have stored: the same value, sealed with an
	// older key.
	earlier [][]byte
	// lease is the put's lease; keepsLease says that it keeps the key's lease.
	lease      int64
	keepsLease bool
	// since is the mod revision that the whole write was bound to; 0 if to none.
	since int64
	// creates says that the write was bound to the absence of the key.
	creates bool
}

// made reports whether the write would make kv exactly what it is. before is the version
// before it, or nil.
func (w *witness) made(kv, before *mvccpb.KeyValue) bool {
	lease := w.lease
	if w.keepsLease {
		lease = before.GetLease()
	}
	return kv.Lease == lease && w.wrote(kv.Value)
}

// wrote reports whether a stored value is one that the write stores.
func (w *witness) wrote(stored []byte) bool {
	is := func(sent []byte) bool { return bytes.Equal(stored, sent) }
	return !w.deletes && (is(w.stored) || slices.ContainsFunc(w.earlier, is))
}
