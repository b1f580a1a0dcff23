package etcd

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Condition is a condition of a transaction. Make one with [Value], [Exists] and similar
// functions; the zero value is refused.
type Condition struct {
	key    string // or the prefix
	prefix bool
	target pb.Compare_CompareTarget
	result pb.Compare_CompareResult
	number int64
	value  []byte
	valid  bool
}

// ValueTerm is the value of a key in a condition, or of each key under a prefix.
type ValueTerm struct {
	key    string
	prefix bool
}

// Value returns the term for a condition on the value of key. No condition on the value
// of a missing key holds, not even NotEqual.
func Value(key string) ValueTerm { return ValueTerm{key: key} }

// OfPrefix returns the term for the values of all keys that begin with the term's key: a
// condition holds if there is such a key and it holds for every one of them. The empty
// prefix means all keys.
//
// If values are encrypted or compressed, the client reads all values under the prefix to
// compare them.
func (t ValueTerm) OfPrefix() ValueTerm {
	t.prefix = true
	return t
}

func (t ValueTerm) compare(result pb.Compare_CompareResult, value []byte) Condition {
	return Condition{key: t.key, prefix: t.prefix, target: pb.Compare_VALUE, result: result, value: value, valid: true}
}

// Equal holds if the value is v.
func (t ValueTerm) Equal(v []byte) Condition { return t.compare(pb.Compare_EQUAL, v) }

// NotEqual holds if the key exists and its value is not v.
func (t ValueTerm) NotEqual(v []byte) Condition { return t.compare(pb.Compare_NOT_EQUAL, v) }

// Less holds if the value is before v in the order of bytes.
func (t ValueTerm) Less(v []byte) Condition { return t.compare(pb.Compare_LESS, v) }

// Greater holds if the value is after v in the order of bytes.
func (t ValueTerm) Greater(v []byte) Condition { return t.compare(pb.Compare_GREATER, v) }

// NumberTerm is a number of a key in a condition, or of each key under a prefix: a
// revision, its version or its lease. All are zero for a missing key.
type NumberTerm struct {
	key    string
	prefix bool
	target pb.Compare_CompareTarget
}

// CreateRevision returns the term for the revision of key's last creation.
func CreateRevision(key string) NumberTerm { return NumberTerm{key: key, target: pb.Compare_CREATE} }

// ModRevision returns the term for the revision of key's last change.
func ModRevision(key string) NumberTerm { return NumberTerm{key: key, target: pb.Compare_MOD} }

// Version returns the term for the number of changes of key since its creation.
func Version(key string) NumberTerm { return NumberTerm{key: key, target: pb.Compare_VERSION} }

// AttachedLease returns the term for the lease that key is attached to, as
// int64([LeaseID]).
func AttachedLease(key string) NumberTerm { return NumberTerm{key: key, target: pb.Compare_LEASE} }

// OfPrefix returns the term for the number of each key that begins with the term's key: a
// condition holds if it holds for every one of them. The empty prefix means all keys.
// Without any key the number is zero, like that of a missing key: then
// ModRevision(p).OfPrefix().Less(n) holds, and Greater(0) does not.
//
// Such a condition sees only existing keys. It proves that none was created or changed,
// but not that none was deleted.
func (t NumberTerm) OfPrefix() NumberTerm {
	t.prefix = true
	return t
}

func (t NumberTerm) compare(result pb.Compare_CompareResult, n int64) Condition {
	return Condition{key: t.key, prefix: t.prefix, target: t.target, result: result, number: n, valid: true}
}

// Equal holds when the number is n.
func (t NumberTerm) Equal(n int64) Condition { return t.compare(pb.Compare_EQUAL, n) }

// NotEqual holds when the number is not n.
func (t NumberTerm) NotEqual(n int64) Condition { return t.compare(pb.Compare_NOT_EQUAL, n) }

// Less holds when the number is below n.
func (t NumberTerm) Less(n int64) Condition { return t.compare(pb.Compare_LESS, n) }

// Greater holds when the number is above n.
func (t NumberTerm) Greater(n int64) Condition { return t.compare(pb.Compare_GREATER, n) }

// Exists holds when key exists.
func Exists(key string) Condition { return CreateRevision(key).Greater(0) }

// Missing holds when key does not exist.
func Missing(key string) Condition { return CreateRevision(key).Equal(0) }

// PrefixEmpty holds when no key begins with prefix. An empty prefix means all
// keys.
func PrefixEmpty(prefix string) Condition { return CreateRevision(prefix).OfPrefix().Equal(0) }

// holds reports whether the condition holds if its term compares with its operand as
// order says: negative, zero or positive.
func (cond Condition) holds(order int) bool {
	switch cond.result {
	case pb.Compare_EQUAL:
		return order == 0
	case pb.Compare_NOT_EQUAL:
		return order != 0
	case pb.Compare_LESS:
		return order < 0
	default:
		return order > 0
	}
}

// serverDecides reports whether the server can decide the condition: it sees the values,
// or doesn't need them.
func (c *Client) serverDecides(cond Condition) bool {
	// The prefix itself decides for all its keys. Its range would not do: that of the
	// empty prefix begins with a key.
	return cond.target != pb.Compare_VALUE || c.codec.plain(c.whole(cond.key))
}

var errZeroCondition = fmt.Errorf("%w: zero condition", ErrInvalidArgument)

// compare converts a condition, assuming that the server can decide it.
func (c *Client) compare(cond Condition) (*pb.Compare, error) {
	if !cond.valid {
		return nil, errZeroCondition
	}
	rng, err := c.keyOrPrefix(cond.key, cond.prefix)
	if err != nil {
		return nil, err
	}
	out := &pb.Compare{Key: rng.Start, RangeEnd: rng.End, Target: cond.target, Result: cond.result}
	switch cond.target {
	case pb.Compare_VALUE:
		out.TargetUnion = &pb.Compare_Value{Value: cond.value}
	case pb.Compare_CREATE:
		out.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: cond.number}
	case pb.Compare_MOD:
		out.TargetUnion = &pb.Compare_ModRevision{ModRevision: cond.number}
	case pb.Compare_VERSION:
		out.TargetUnion = &pb.Compare_Version{Version: cond.number}
	case pb.Compare_LEASE:
		out.TargetUnion = &pb.Compare_Lease{Lease: cond.number}
	}
	return out, nil
}
