package etcd

import (
	"bytes"
	"unsafe"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

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

// after returns the first key after key.
func after(key []byte) []byte {
	return append(append(make([]byte, 0, len(key)+1), key...), 0)
}

// span is a keyRange that can be compared.
type span struct{ start, end string }

// request returns the read of a span.
func (s span) request() *pb.RangeRequest {
	r := &pb.RangeRequest{Key: []byte(s.start)}
	if s.end != "" {
		r.RangeEnd = []byte(s.end)
	}
	return r
}

func spanOf(rng keyRange) span { return span{string(rng.start), string(rng.end)} }
