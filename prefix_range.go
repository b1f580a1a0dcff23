package etcd

import "context"

// RangeResult is the result of [Client.Range].
type RangeResult struct {
	// KVs are the key-values, in the order of the keys, without those whose value could
	// not be decoded.
	KVs []KeyValue
	// Revision is the revision of the store at which all of them were read, however many
	// there are.
	Revision int64
}

// Range reads the key-values that begin with prefix, all at one revision, and returns
// that revision: a watch that starts at the next one misses nothing and repeats
// nothing.
//
//	list, err := client.Range(ctx, "/app/")
//	…
//	watch := client.WatchPrefix(ctx, "/app/", etcd.WithRevision(list.Revision+1))
//
// A watch that falls so far behind that its position is compacted ends with
// [ErrCompacted]. Then call Range again and compare its result with what you know, since
// deletions are not delivered again.
//
// The empty prefix means all keys; a prefix without keys gives an empty list and a
// revision. [WithRevision] reads the past, and Revision is that revision. With
// [WithSerializable] it is the revision that the answering member has reached. If values
// can't be decoded, the error joins a [*DecodeError] for each, and the result holds the
// others and the revision, as it does together with [ErrKeyUnavailable]; with any other
// error it is nil.
//
// Range holds everything in memory; use [Client.Scan] for more. Up to 10,000 keys take
// one round trip; more take a stream or several pages.
func (c *Client) Range(ctx context.Context, prefix string, opts ...GetOption) (*RangeResult, error) {
	const op = "range"
	o, err := getOptionsOf(opts)
	if err != nil {
		return nil, fail(op, prefix, err)
	}
	rng, err := c.prefixRange(prefix)
	if err != nil {
		return nil, fail(op, prefix, err)
	}
	pages := c.newPager(request{op: op, key: prefix}, rng, pagerOptions{getOptions: o, pinned: true})
	found, err := pages.all(ctx)
	if err != nil {
		return nil, err
	}
	kvs, err := c.keyValues(ctx, found)
	return &RangeResult{KVs: kvs, Revision: pages.revision}, answered(op, prefix, err)
}
