package etcd

import (
	"context"
)

// TypedRangeResult is the result of [Typed.Range].
type TypedRangeResult[T any] struct {
	// Values are the values, in the order of their keys, without those that could not be
	// decoded.
	Values []TypedValue[T]
	// Revision is the revision of the store at which all of them were read.
	Revision int64
}

// Range reads all values at one revision, and returns that revision: a [Typed.Watch]
// [WithRevision] of the next one misses nothing, see [Client.Range]. If some can't be
// decoded, the error joins a [*DecodeError] for each and the result holds the others;
// with any other error the result is nil.
func (t *Typed[T]) Range(ctx context.Context, opts ...GetOption) (*TypedRangeResult[T], error) {
	if err := t.check("range", ""); err != nil {
		return nil, err
	}
	found, err := t.client.Range(ctx, t.prefix, opts...)
	if found == nil {
		return nil, err
	}
	out := &TypedRangeResult[T]{Revision: found.Revision}
	bad := []error{err}
	for _, kv := range found.KVs {
		value, err := t.unmarshal(kv)
		if err != nil {
			bad = append(bad, answered("range", kv.Key, err))
			continue
		}
		out.Values = append(out.Values, value)
	}
	return out, joinUndecoded(bad...)
}
