// Package keys holds ranges of keys as etcd stores them. It may import only the standard
// library.
package keys

import (
	"bytes"
	"unsafe"
)

// Range is a range of keys as stored: from Start up to but not including End. A nil End
// means only Start.
type Range struct{ Start, End []byte }

// Empty reports whether no key can be in k.
func (k Range) Empty() bool {
	return k.End != nil && !k.open() && bytes.Compare(k.Start, k.End) >= 0
}

// open reports whether k goes to the end of all keys.
func (k Range) open() bool { return bytes.Equal(k.End, ToTheEnd) }

// Contains reports whether key is in k.
func (k Range) Contains(key []byte) bool {
	switch {
	case k.End == nil:
		return bytes.Equal(key, k.Start)
	case k.open():
		return bytes.Compare(key, k.Start) >= 0
	default:
		return bytes.Compare(key, k.Start) >= 0 && bytes.Compare(key, k.End) < 0
	}
}

// Before returns k without the keys from end on.
func (k Range) Before(end []byte) Range {
	if k.open() || bytes.Compare(end, k.End) < 0 {
		k.End = end
	}
	return k
}

// ToTheEnd is the end of a range that the server takes to mean the end of all keys.
var ToTheEnd = []byte{0}

// PrefixEnd returns the first key after all those that begin with prefix, or ToTheEnd if
// there is none, because prefix is empty or consists of FF only.
func PrefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			end := append([]byte(nil), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return ToTheEnd
}

// Text returns b as a string without a copy. Nothing may write to b any more.
func Text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// After returns the first key after key.
func After(key []byte) []byte {
	return append(append(make([]byte, 0, len(key)+1), key...), 0)
}

// Span is a Range that can be compared.
type Span struct{ Start, End string }

// SpanOf returns the span of a range.
func SpanOf(r Range) Span { return Span{string(r.Start), string(r.End)} }
