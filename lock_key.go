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
//
// The key of the leader of an election is the same whoever leads (election_key.go). It is
// recognized by its name, and by being attached to a lease.

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

// isNamedClaim reports whether a key is named like a claim.
func isNamedClaim(key []byte) bool { return leaseOfName(key) != 0 || isLeaderName(key) }

// isClaim reports whether a key-value, read with its lease, is the claim of a lock.
func isClaim(kv *mvccpb.KeyValue) bool {
	return kv.Lease != 0 && (leaseOfName(kv.Key) == kv.Lease || isLeaderName(kv.Key))
}

// isBareClaim reports whether a key-value, read with its lease, is a claim of package
// concurrency: behind so many bytes its key is the lease that it is attached to.
func isBareClaim(kv *mvccpb.KeyValue, prefix int) bool {
	return kv.Lease != 0 && len(kv.Key) > prefix && string(kv.Key[prefix:]) == bareLease(LeaseID(kv.Lease))
}

// isClaimIn reports whether a key-value, read with its lease, is a claim in a range of a queue,
// which begins with what the keys of the claims begin with.
func isClaimIn(r keys.Range, kv *mvccpb.KeyValue) bool {
	if r.Start[len(r.Start)-1] == 0 {
		return isClaim(kv)
	}
	return isBareClaim(kv, len(r.Start))
}

// bareLease returns the ID of a lease as package concurrency puts it into keys.
func bareLease(id LeaseID) string { return strconv.FormatInt(int64(id), 16) }

// withoutClaims returns kvs, read with their leases, without the claims of locks.
func withoutClaims(kvs []*mvccpb.KeyValue) []*mvccpb.KeyValue { return without(kvs, isClaim) }

func without(kvs []*mvccpb.KeyValue, hidden func(*mvccpb.KeyValue) bool) []*mvccpb.KeyValue {
	if !slices.ContainsFunc(kvs, hidden) {
		return kvs
	}
	return slices.DeleteFunc(slices.Clone(kvs), hidden)
}

// Kinds of claims: what stands between the NUL behind a name and the lease. Each has a range of
// its own, since a word in front of the lease begins behind the digits. What decides is in the
// key, so that a read without values suffices.
const (
	readKind      = rwKind + "r\x00"
	writeKind     = rwKind + "w\x00"
	rwKind        = "rw\x00"
	semaphoreKind = "sem\x00" // then size, slash, weight, NUL
)

// lockRange returns the range of the claims to the lock of that name.
func (n namespace) lockRange(name string) (keys.Range, error) {
	stored, err := n.stored(name + "\x00")
	return keys.Range{Start: stored, End: append(slices.Clip(stored), 'f'+1)}, err
}
