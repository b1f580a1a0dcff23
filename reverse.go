package etcd

import (
	"context"
	"math"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// backward delivers the key-values from the last to the first. It reads the keys
// forward in pages and keeps of each but its first key; then it reads the pages
// again from the last, the keys at once and the values in pieces. (The server can
// sort, but to do so it gathers the whole range with its values for each request.)
func (s *scan) backward(ctx context.Context, deliver deliver) error {
	options := s.options.getOptions
	options.limit = 0 // the last keys are wanted, not the first
	pages := s.client.newPager(s.request, s.keys, pagerOptions{getOptions: options, keysOnly: true, pinned: true})
	var firsts [][]byte
	var page []*mvccpb.KeyValue
	for pages.more() {
		kvs, err := pages.read(ctx)
		if err != nil {
			return err
		}
		if len(kvs) > 0 {
			page, firsts = kvs, append(firsts, kvs[0].Key)
		}
	}
	options.revision = pages.revision
	r := reversal{scan: s, options: options, deliver: deliver, left: s.options.limit, size: firstPage}
	if r.left == 0 {
		r.left = math.MaxInt64
	}
	for i := len(firsts) - 1; i >= 0; i-- {
		done, err := r.page(ctx, page)
		if err != nil || done || i == 0 {
			return err
		}
		if page, err = r.get(ctx, keyRange{firsts[i-1], firsts[i]}, true); err != nil {
			return err
		}
	}
	return nil
}

// reversal is the way back of a scan.
type reversal struct {
	*scan
	options getOptions // of each request, with the revision of the scan
	deliver deliver
	left    int64 // how many key-values are wanted
	size    int64 // how many of them the next piece has
}

// page delivers key-values of which the keys are known, and reports whether no
// more are wanted.
func (r *reversal) page(ctx context.Context, kvs []*mvccpb.KeyValue) (done bool, err error) {
	kvs = kvs[int64(len(kvs))-min(r.left, int64(len(kvs))):]
	r.left -= int64(len(kvs))
	for len(kvs) > 0 {
		piece := kvs[int64(len(kvs))-min(r.size, int64(len(kvs))):]
		kvs = kvs[:len(kvs)-len(piece)]
		if !r.scan.options.keysOnly {
			keys := keyRange{piece[0].Key, after(piece[len(piece)-1].Key)}
			if piece, err = r.get(ctx, keys, false); err != nil {
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
func (r *reversal) get(ctx context.Context, keys keyRange, keysOnly bool) ([]*mvccpb.KeyValue, error) {
	req := r.options.rangeRequest(keys)
	req.KeysOnly = keysOnly
	resp, err := do(ctx, r.client, r.request, r.client.rpc.get, req)
	return resp.GetKvs(), err
}
