package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// pagerOptions say how a range is read in pages.
type pagerOptions struct {
	getOptions
	keysOnly bool
	// pinned reads all pages at the revision of the first.
	pinned bool
	// bytes is about how much one page may hold; 0 means pageKeys keys a page,
	// whatever their size.
	bytes int
}

// pageKeys is the most keys that one page asks for, and firstPage how many the
// first one asks for while the size of the values is not known.
const (
	pageKeys  = 10_000
	firstPage = 64
)

// pager reads a range page by page. It is used by one goroutine.
type pager struct {
	client   *Client
	request  request
	options  pagerOptions
	next     *pb.RangeRequest // nil at the end
	revision int64            // of the first page
	count    int64            // keys read
}

func (c *Client) newPager(r request, keys keyRange, o pagerOptions) *pager {
	p := &pager{client: c, request: r, options: o}
	p.next = o.rangeRequest(keys)
	p.next.KeysOnly = o.keysOnly
	p.next.Limit = p.clamp(pageKeys)
	if o.bytes > 0 && !o.keysOnly {
		p.next.Limit = p.clamp(firstPage)
	}
	return p
}

// more reports whether there is a page to read.
func (p *pager) more() bool { return p.next != nil }

// clamp bounds the limit of a page by that of the whole.
func (p *pager) clamp(n int64) int64 {
	n = min(max(n, 1), pageKeys)
	if p.options.limit > 0 {
		n = min(n, p.options.limit-p.count)
	}
	return n
}

// read reads the next page. A compaction past a pinned revision on the way is
// ErrCompacted.
func (p *pager) read(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	resp, err := do(ctx, p.client, p.request, p.client.rpc.get, p.next)
	if err != nil {
		return nil, err
	}
	if p.revision == 0 {
		p.revision = resp.Header.GetRevision()
	}
	p.count += int64(len(resp.Kvs))
	p.next = p.after(resp)
	return resp.Kvs, nil
}

// after returns the request for what comes after resp; nil for nothing.
func (p *pager) after(resp *pb.RangeResponse) *pb.RangeRequest {
	if !resp.More || len(resp.Kvs) == 0 || p.options.limit > 0 && p.count >= p.options.limit {
		return nil
	}
	last := resp.Kvs[len(resp.Kvs)-1].Key
	next := &pb.RangeRequest{
		Key:          append(append(make([]byte, 0, len(last)+1), last...), 0),
		RangeEnd:     p.next.RangeEnd,
		Revision:     p.next.Revision,
		Serializable: p.next.Serializable,
		KeysOnly:     p.next.KeysOnly,
		Limit:        p.clamp(pageKeys),
	}
	if p.options.bytes > 0 && !p.options.keysOnly {
		size := 0
		for _, kv := range resp.Kvs {
			size += len(kv.Key) + len(kv.Value)
		}
		// The next page is as large as this one's average says, but grows no more
		// than eightfold: the values may be larger from here on.
		n := int64(len(resp.Kvs))
		next.Limit = p.clamp(min(int64(p.options.bytes)*n/int64(max(size, 1)), 8*n))
	}
	if p.options.pinned && next.Revision == 0 {
		next.Revision = p.revision
	}
	return next
}
