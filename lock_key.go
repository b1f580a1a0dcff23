package etcd

import (
	"bytes"
	"slices"
	"strconv"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// The claims of locks lie among the keys of users, under the names that users gave the
// locks. Calls that read ranges for users skip them. A claim is recognized by all of its
// properties, not by its name alone:
//
//   - its key ends with a NUL byte and the ID of a lease in hexadecimal;
//   - it is attached to that lease.
//
// A user's key with both properties would hold the lock of that name. A key that lacks one
// of them is shown: if an answer comes without leases (a keys-only read since etcd 3.7),
// keys with such names are read again. A claim may have a value, which says whose it is.

// claimSuffix is the length of the end of a claim's key: the NUL and the digits.
const claimSuffix = 1 + 16

// leaseOfName returns the lease that the name of a key ends with, or 0.
func leaseOfName(key []byte) int64 {
	name := len(key) - claimSuffix
	if name <= 0 || key[name] != 0 {
		return 0
	}
	digits := key[name+1:]
	if bytes.ContainsFunc(digits, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }) {
		return 0
	}
	id, err := strconv.ParseUint(keys.Text(digits), 16, 64)
	if err != nil {
		return 0
	}
	return int64(id)
}

// isClaim reports whether a key-value, read with its lease, is the claim of a lock.
func isClaim(kv *mvccpb.KeyValue) bool {
	return kv.Lease != 0 && leaseOfName(kv.Key) == kv.Lease
}

// withoutClaims returns kvs, read with their leases, without the claims of locks.
func withoutClaims(kvs []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	if !slices.ContainsFunc(kvs, isClaim) {
		return kvs
	}
	return slices.DeleteFunc(slices.Clone(kvs), isClaim)
}
