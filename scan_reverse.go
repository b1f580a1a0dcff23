package etcd

import (
	"context"
	"math"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// backward delivers the key-values from the last to the first. It reads the keys forward,
// in pages of which it keeps only the first key; then it reads the pages again from the
// last, the keys at once and the values in pieces. (The server can sort, but for each
// request it would gather the whole range with its values.)
func (s *scan) backward(ctx context.Context, deliver deliver) error {
	options := s.options.getOptions
	options.limit = 0 // the last keys are wanted, not the first
	var firsts [][]byte
	var page []*mvccpb.KeyValue
	pages := s.pages(options, true)
	err := forward(ctx, pages, func(kvs []*mvccpb.KeyValue) bool {
		for _, kv := range kvs {
			if len(page) == pageKeys {
				page = page[:0]
			}
			if page = append(page, kv); len(page) == 1 {
				firsts = append(firsts, kv.Key)
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	options.revision = pages.revision
	r := reversal{
		client: s.client, request: pages.request, options: options, keysOnly: s.options.keysOnly,
		deliver: deliver, left: s.options.limit, size: firstPage,
	}
	if r.left == 0 {
		r.left = math.MaxInt64
	}
	for i := len(firsts) - 1; i >= 0; i-- {
		done, err := r.page(ctx, page)
		if err != nil || done || i == 0 {
			return err
		}
		if page, err = r.get(ctx, keys.Range{Start: firsts[i-1], End: firsts[i]}, true); err != nil {
			return err
		}
	}
	return nil
}

// reversal is the backward part of a scan.
type reversal struct {
	client   *Client
	request  request
	options  getOptions // of each request, with the revision of the scan
	keysOnly bool
	deliver  deliver
	left     int64 // how many key-values are wanted
	size     int64 // how many of them the next piece has
}

// page delivers key-values whose keys are known, and reports whether no more are wanted.
func (r *reversal) page(ctx context.Context, kvs []*mvccpb.KeyValue) (done bool, err error) {
	kvs = lastOf(kvs, r.left)
	r.left -= int64(len(kvs))
	for len(kvs) > 0 {
		piece := lastOf(kvs, r.size)
		kvs = kvs[:len(kvs)-len(piece)]
		if !r.keysOnly {
			if piece, err = r.get(ctx, keys.Range{Start: piece[0].Key, End: keys.After(piece[len(piece)-1].Key)}, false); err != nil {
				return false, err
			}
			r.size = pageLimit(piece, scanBytes)
		}
		slices.Reverse(piece)
		if !r.deliver(piece) {
			return true, nil
		}
	}
	return r.left == 0, nil
}

// get reads a range that is small enough for one answer.
func (r *reversal) get(ctx context.Context, rng keys.Range, keysOnly bool) ([]*mvccpb.KeyValue, error) {
	req := r.options.rangeRequest(rng)
	req.KeysOnly = keysOnly
	resp, err := do(ctx, r.client.conn, r.request, r.client.rpc.Get, req)
	switch {
	case err != nil:
		return nil, err
	case keysOnly:
		return r.client.keysWithoutClaims(ctx, r.request, r.options, resp.Kvs)
	default:
		return withoutClaims(resp.Kvs), nil
	}
}

// lastOf returns the last n of kvs, or all if there are fewer.
func lastOf(kvs []*mvccpb.KeyValue, n int64) []*mvccpb.KeyValue {
	return kvs[max(0, int64(len(kvs))-n):]
}
