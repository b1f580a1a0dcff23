package etcd

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"unsafe"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// KeyValue is a key with its value and what the server knows about it.
type KeyValue struct {
	// Key is the key without the namespace.
	Key string
	// Value is the decoded value; it is not nil, but for a key-value that was
	// read without its value (a keys-only read, a delete event) or could not
	// be decoded. The caller owns it.
	Value []byte
	// CreateRevision is the revision of the last creation of the key.
	CreateRevision int64
	// ModRevision is the revision of the last change of the key.
	ModRevision int64
	// Version counts the changes since the creation: 1 after it.
	Version int64
	// Lease is the lease that the key is attached to; 0 means none.
	Lease LeaseID
}

// keyRange is a range of keys as stored: from start up to but not including
// end. A nil end means start alone.
type keyRange struct{ start, end []byte }

// empty reports whether no key can be in k.
func (k keyRange) empty() bool {
	return k.end != nil && !k.open() && bytes.Compare(k.start, k.end) >= 0
}

// open reports whether k goes to the end of all keys.
func (k keyRange) open() bool { return bytes.Equal(k.end, toTheEnd) }

// contains reports whether key is in k.
func (k keyRange) contains(key []byte) bool {
	switch {
	case k.end == nil:
		return bytes.Equal(key, k.start)
	case k.open():
		return bytes.Compare(key, k.start) >= 0
	default:
		return bytes.Compare(key, k.start) >= 0 && bytes.Compare(key, k.end) < 0
	}
}

// before returns k without the keys from end on.
func (k keyRange) before(end []byte) keyRange {
	if k.open() || bytes.Compare(end, k.end) < 0 {
		k.end = end
	}
	return k
}

// toTheEnd is what the server takes for the end of a range without one.
var toTheEnd = []byte{0}

// prefixEnd returns the first key after all those that begin with prefix, or
// toTheEnd for a prefix of nothing but FF, which has none.
func prefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			end := append([]byte(nil), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return toTheEnd
}

// text returns bytes that nothing writes to any more as a string, without a copy.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// keyValue converts a key-value of the wire by itself, see decoding.
func (c *Client) keyValue(ctx context.Context, kv *mvccpb.KeyValue, keysOnly bool) (KeyValue, error) {
	d := c.codec.decoding(ctx)
	defer d.end()
	return d.keyValue(kv, keysOnly)
}

// keyValues converts the key-values of an answer, see decoding.
func (c *Client) keyValues(ctx context.Context, kvs []*mvccpb.KeyValue) ([]KeyValue, error) {
	d := c.codec.decoding(ctx)
	defer d.end()
	return d.keyValues(kvs, false)
}

// putRequest builds the request for a put: the only place where a caller's value
// is encoded. If that means encrypted, the second result goes into the request that
// the put is sent with.
func (c *Client) putRequest(ctx context.Context, key string, value []byte, o putOptions) (*pb.PutRequest, *sealedPut, error) {
	if o.guarded {
		return nil, nil, fmt.Errorf("%w: WithGuard is for single puts", ErrInvalidArgument)
	}
	stored, err := c.stored(key)
	if err != nil {
		return nil, nil, err
	}
	encoded, sealedBy, err := c.codec.encode(ctx, stored, value)
	if err != nil {
		return nil, nil, err
	}
	if sealedBy == nil {
		return &pb.PutRequest{Key: stored, Value: encoded, Lease: int64(o.lease), IgnoreLease: o.ignoreLease, PrevKv: o.prevKV}, nil, nil
	}
	s := &sealedPut{codec: c.codec, value: value, key: sealedBy}
	s.wire.Key, s.wire.Value, s.wire.Lease, s.wire.IgnoreLease, s.wire.PrevKv = stored, encoded, int64(o.lease), o.ignoreLease, o.prevKV
	return &s.wire, s, nil
}

// requestHeader returns how many bytes the server puts around a request before it
// compares it with its limit (server/v3/etcdserver/v3_server.go,
// processInternalRaftRequestOnce), at the most and without the length of the
// request: a header, which holds an ID and, for a user, the name and the revision of
// the rights; and a tag each for header and request.
func requestHeader(user string) int {
	header := 1 + binary.MaxVarintLen64
	if user != "" {
		const revision = 4 // for 268 million changes of users and roles
		header += 1 + protowire.SizeBytes(len(user)) + 1 + revision
	}
	const tags = 2 + 1 // of the fields 100, and 4 to 6
	return tags + protowire.SizeBytes(header)
}

// largestMessage returns the size of the largest request that fits into a limit of
// the server for which header bytes are put around it.
func largestMessage(limit, header int) int {
	n := limit - header - protowire.SizeVarint(uint64(limit))
	if header+protowire.SizeBytes(n+1) <= limit { // its length may take a byte less
		n++
	}
	return n
}

// checkSize refuses a request that the server would refuse for its size, and no
// other but for a few bytes below the limit: the server's ID may be shorter than it
// is taken for here. The name of a user that the client doesn't know, as that of a
// token, is not counted; the server refuses by the same error then.
//
// Reads have the same limit, for the sake of one rule. The server's own would be
// half a MiB higher.
func (c *conn) checkSize(m proto.Message) error { return c.checkBytes(proto.Size(m)) }

func (c *conn) checkBytes(n int) error {
	if n <= c.largest {
		return nil
	}
	limit := c.cfg.MaxRequestBytes
	return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, n+limit-c.largest, limit)
}
