package etcd

import (
	"context"
	"fmt"
	"path"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// List returns the keys that begin with prefix, in order. The empty prefix means all
// keys. A prefix without keys gives an empty list. Like every call that reads a range, it
// skips the claims of locks (see [Lock]). To tell them from keys that only look like
// claims, it takes one more round trip for every 32 keys with such names.
func (c *Client) List(ctx context.Context, prefix string, opts ...GetOption) ([]string, error) {
	kvs, err := c.listPrefix(ctx, request{op: "list", key: prefix}, true, opts)
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(kvs))
	for i, kv := range kvs {
		keys[i] = c.visible(kv.Key)
	}
	return keys, nil
}

// ListWithValues returns the values of the keys that begin with prefix, all at one
// revision. If values can't be decoded, the error joins a [*DecodeError] for each and the
// map holds the others.
func (c *Client) ListWithValues(ctx context.Context, prefix string, opts ...GetOption) (map[string][]byte, error) {
	const op = "list"
	kvs, err := c.listPrefix(ctx, request{op: op, key: prefix}, false, opts)
	if err != nil {
		return nil, err
	}
	converted, err := c.keyValues(ctx, kvs)
	out := make(map[string][]byte, len(converted))
	for _, kv := range converted {
		out[kv.Key] = kv.Value
	}
	return out, answered(op, prefix, err)
}

// Count returns how many keys begin with prefix, in one round trip and without reading
// them. The empty prefix means all keys. The server also counts the claims of locks,
// which lists skip (see [Lock]).
func (c *Client) Count(ctx context.Context, prefix string, opts ...GetOption) (int64, error) {
	const op = "count"
	o, err := getOptionsOf(opts)
	if err != nil {
		return 0, fail(op, prefix, err)
	}
	rng, err := c.prefixRange(prefix)
	if err != nil {
		return 0, fail(op, prefix, err)
	}
	req := o.rangeRequest(rng)
	req.CountOnly = true
	resp, err := do(ctx, c.conn, request{op: op, key: prefix}, c.rpc.Get, req)
	if err != nil {
		return 0, err
	}
	return resp.Count, nil
}

// GetRange returns the key-values from start up to but not including end, in the order of
// the keys. An empty end means the end of all keys.
func (c *Client) GetRange(ctx context.Context, start, end string, opts ...GetOption) ([]KeyValue, error) {
	const op = "get range"
	rng, err := c.between(start, end)
	if err != nil {
		return nil, fail(op, start, err)
	}
	return c.readRange(ctx, request{op: op, key: start}, rng, opts)
}

// GetPrefix returns the first limit key-values that begin with prefix, in
// the order of the keys; a limit of 0 means all.
func (c *Client) GetPrefix(ctx context.Context, prefix string, limit int64) ([]KeyValue, error) {
	const op = "get prefix"
	rng, err := c.prefixRange(prefix)
	if err != nil {
		return nil, fail(op, prefix, err)
	}
	return c.readRange(ctx, request{op: op, key: prefix}, rng, []GetOption{WithLimit(limit)})
}

// GetKeysByPattern returns the keys that match a pattern of [path.Match], in order:
// "/users/*/email" matches one level between. It reads the keys that begin with the part
// of the pattern before its first special character.
func (c *Client) GetKeysByPattern(ctx context.Context, pattern string) ([]string, error) {
	const op = "get by pattern"
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fail(op, pattern, fmt.Errorf("%w: %w", ErrInvalidArgument, err))
	}
	prefix := pattern
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		prefix = pattern[:i]
	}
	kvs, err := c.listPrefix(ctx, request{op: op, key: prefix}, true, nil)
	if err != nil {
		return nil, err
	}
	var matching []string
	for _, kv := range kvs {
		key := c.visible(kv.Key)
		if ok, _ := path.Match(pattern, key); ok { // the pattern was checked above
			matching = append(matching, key)
		}
	}
	return matching, nil
}

// readRange reads and converts a range. The error joins a *DecodeError for each
// value that could not be decoded; the others are returned.
func (c *Client) readRange(ctx context.Context, r request, rng keys.Range, opts []GetOption) ([]KeyValue, error) {
	kvs, err := c.pages(ctx, r, rng, false, opts)
	if err != nil {
		return nil, err
	}
	out, err := c.keyValues(ctx, kvs)
	return out, r.answered(err)
}

func (c *Client) listPrefix(ctx context.Context, r request, keysOnly bool, opts []GetOption) ([]*mvccpb.KeyValue, error) {
	rng, err := c.prefixRange(r.key)
	if err != nil {
		return nil, r.fail(err)
	}
	return c.pages(ctx, r, rng, keysOnly, opts)
}

// pages reads a range at one revision. If that is compacted on the way, the error is
// ErrCompacted.
func (c *Client) pages(ctx context.Context, r request, rng keys.Range, keysOnly bool, opts []GetOption) ([]*mvccpb.KeyValue, error) {
	o, err := getOptionsOf(opts)
	if err != nil {
		return nil, r.fail(err)
	}
	return c.newPager(r, rng, pagerOptions{getOptions: o, keysOnly: keysOnly, pinned: true}).all(ctx)
}
