package etcd

import (
	"fmt"

	"github.com/blueprint-go/etcd/internal/keys"
)

// namespace says where a client's keys lie among those of the cluster, and how long they
// may be.
type namespace struct {
	prefix     string
	maxKey     int // bytes, with the prefix
	maxRequest int
}

func newNamespace(cfg *Config) namespace {
	return namespace{prefix: cfg.Namespace, maxKey: cfg.MaxKeyBytes, maxRequest: cfg.MaxRequestBytes}
}

// stored returns the key as the server knows it, or why it can't be a key.
func (n namespace) stored(key string) ([]byte, error) {
	if key == "" {
		return nil, ErrEmptyKey
	}
	return n.storedPrefix(key)
}

// storedPrefix is stored for a prefix, which may be empty.
func (n namespace) storedPrefix(prefix string) ([]byte, error) {
	if size := len(n.prefix) + len(prefix); size > n.maxKey {
		return nil, fmt.Errorf("%w: key of %d bytes, the limit is %d", ErrTooLarge, size, n.maxKey)
	}
	if n.prefix == "" {
		return keys.Bytes(prefix), nil
	}
	b := make([]byte, 0, len(n.prefix)+len(prefix))
	return append(append(b, n.prefix...), prefix...), nil
}

// storedBound returns the bound of a range as the server knows it. A bound is not a key
// that anybody stores: it may be the longest key and a byte, or lie behind a key that a
// client with a higher limit has stored.
func (n namespace) storedBound(key string) ([]byte, error) {
	if size := len(n.prefix) + len(key); size > n.maxRequest {
		return nil, fmt.Errorf("%w: position of %d bytes, the limit is %d", ErrTooLarge, size, n.maxRequest)
	}
	return n.whole(key), nil
}

// whole returns a key with the namespace. The key must have been checked, or come from
// the server.
func (n namespace) whole(key string) []byte { return []byte(n.prefix + key) }

// prefixRange returns the range of all keys that begin with prefix.
func (n namespace) prefixRange(prefix string) (keys.Range, error) {
	start, err := n.storedPrefix(prefix)
	if err != nil {
		return keys.Range{}, err
	}
	end := keys.PrefixEnd(start)
	if len(start) == 0 {
		start = []byte{0} // the smallest key; the server refuses an empty one
	}
	return keys.Range{Start: start, End: end}, nil
}

// visible returns the key of an answer without the namespace. The string shares the
// memory of the message: nothing writes to a received key, and a list of many keys needs
// no copy of each.
func (n namespace) visible(stored []byte) string {
	return keys.Text(stored[min(len(n.prefix), len(stored)):])
}

// keyOrPrefix returns the range of a key, or of all that begin with a prefix.
func (n namespace) keyOrPrefix(key string, prefix bool) (keys.Range, error) {
	if prefix {
		return n.prefixRange(key)
	}
	stored, err := n.stored(key)
	return keys.Range{Start: stored}, err
}

// between returns the range from start up to end.
func (n namespace) between(start, end string) (keys.Range, error) {
	// No key is before "\x00", and the server would take it as an end to mean "to the end
	// of all keys".
	if end != "" && (end <= start || end == "\x00") {
		return keys.Range{}, fmt.Errorf("%w: range ends at %q, before it starts", ErrInvalidArgument, end)
	}
	all, err := n.prefixRange("") // also bounds an open end to the namespace
	if err != nil {
		return keys.Range{}, err
	}
	if start != "" {
		if all.Start, err = n.storedBound(start); err != nil {
			return keys.Range{}, err
		}
	}
	if end != "" {
		if all.End, err = n.storedBound(end); err != nil {
			return keys.Range{}, err
		}
	}
	return all, nil
}
