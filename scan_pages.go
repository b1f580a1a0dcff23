package etcd

import (
	"context"
	"errors"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// pagerOptions say how a range is read in pages.
type pagerOptions struct {
	getOptions
	keysOnly bool
	// pinned reads all pages at the revision of the first.
	pinned bool
	// claims lets the claims of locks through, leaders the keys of leaders alone, which hold values
	// of users. The latter is for reads of values.
	claims, leaders bool
	// bytes is about how much one page may hold; 0 means pageKeys keys a page, whatever
	// their size.
	bytes int
}

// pageKeys is the most keys that one page asks for; firstPage is how many the first one
// asks for, while the size of the values is not known.
const (
	pageKeys  = 10_000
	firstPage = 64
)

// pager reads a range page by page. It is for one goroutine.
type pager struct {
	client   *Client
	request  request
	options  pagerOptions
	next     *pb.RangeRequest // nil at the end
	revision int64            // asked for, or else of the first page
	count    int64            // keys read, not counting those passed over
	passed   int64            // claims of locks passed over since a stream began
	most     int64            // the most keys of a page
}

func (c *Client) newPager(r request, rng keys.Range, o pagerOptions) *pager {
	p := &pager{client: c, request: r, options: o, revision: o.revision, most: pageKeys}
	p.next = o.rangeRequest(rng)
	p.next.KeysOnly = o.keysOnly
	p.next.Limit = p.clamp(pageKeys)
	if o.bytes > 0 {
		p.next.Limit = p.clamp(firstPage)
	}
	return p
}

// more reports whether there is a page to read.
func (p *pager) more() bool { return p.next != nil }

// end makes the pager report that there is no more.
func (p *pager) end() { p.next = nil }

// clamp bounds the limit of a page by what is left of the whole.
func (p *pager) clamp(n int64) int64 {
	n = min(max(n, 1), p.most)
	if p.options.limit > 0 {
		n = min(n, p.options.limit-p.count)
	}
	return n
}

// pin gets the revision of the range before any of it is read.
func (p *pager) pin(ctx context.Context) error {
	if p.revision != 0 {
		return nil
	}
	req := &pb.RangeRequest{Key: p.next.Key, Serializable: p.next.Serializable, CountOnly: true}
	resp, err := do(ctx, p.client.conn, p.request, p.client.rpc.Get, req)
	if err == nil {
		err = p.learn(resp, true)
	}
	if err == nil {
		p.next.Revision = p.revision
	}
	return err
}

// learn takes the revision of the first answer as that of the range, unless one was asked
// for. needed says that later answers must be of the same revision.
func (p *pager) learn(resp *pb.RangeResponse, needed bool) error {
	if p.revision != 0 {
		return nil
	}
	p.revision = resp.Header.GetRevision()
	p.request.pinned = p.options.pinned
	if p.revision == 0 && p.options.pinned && needed {
		return p.request.answered(rpc.Describe(ErrServer, rpc.ErrIncomplete))
	}
	return nil
}

// all reads everything that is left: one page, which is all of the usual list, and the
// rest like a scan.
func (p *pager) all(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	out, err := p.read(ctx)
	if err != nil || !p.more() {
		return out, err
	}
	err = forward(ctx, p, func(kvs []*mvccpb.KeyValue) bool {
		out = append(out, kvs...)
		return true
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// read reads the next page. If a pinned revision is compacted on the way, the error is
// ErrCompacted. A page that is too large for a message (2 GiB, or less with a proxy) is
// made smaller.
func (p *pager) read(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	resp, err := do(ctx, p.client.conn, p.request, p.client.rpc.Get, p.next)
	for errors.Is(err, ErrTooLarge) && p.next.Limit > 1 {
		p.most = max(p.next.Limit/8, 1)
		p.next.Limit = p.most
		resp, err = do(ctx, p.client.conn, p.request, p.client.rpc.Get, p.next)
	}
	if err != nil {
		return nil, err
	}
	if err := p.learn(resp, resp.More); err != nil {
		return nil, err
	}
	kvs, err := p.take(ctx, resp.Kvs)
	if !resp.More {
		p.end()
	}
	return kvs, err
}

// take moves behind key-values that were read and returns those to show: all except the
// claims of locks.
func (p *pager) take(ctx context.Context, read []*mvccpb.KeyValue) ([]*mvccpb.KeyValue, error) {
	kvs, err := read, error(nil)
	switch {
	case p.options.claims:
	case p.options.keysOnly:
		o := getOptions{revision: p.revision, serializable: p.options.serializable}
		kvs, err = p.client.keysWithoutClaims(ctx, p.request, o, read)
	default:
		kvs = without(read, p.hidden)
	}
	p.passed += int64(len(read) - len(kvs))
	p.count += int64(len(kvs))
	p.skip(read)
	return kvs, err
}

// hidden reports whether a key-value, read with its lease, is not to be shown.
func (p *pager) hidden(kv *mvccpb.KeyValue) bool {
	return isClaim(kv) && (!p.options.leaders || !isLeaderName(kv.Key))
}

// streamEnded records that a stream has delivered all that it was asked for. If it had a
// limit, keys that were passed over counted against it, so another stream must bring the
// rest.
func (p *pager) streamEnded() {
	if p.options.limit == 0 || p.passed == 0 {
		p.end()
	}
	p.passed = 0
}

// rest returns the request for everything that is left.
func (p *pager) rest() *pb.RangeRequest {
	r := p.next
	out := &pb.RangeRequest{Key: r.Key, RangeEnd: r.RangeEnd, Revision: r.Revision, Serializable: r.Serializable, KeysOnly: r.KeysOnly}
	if p.options.limit > 0 {
		out.Limit = p.options.limit - p.count
	}
	return out
}

// skip moves behind key-values that were read. If the limit leaves nothing to ask for,
// that is the end.
func (p *pager) skip(kvs []*mvccpb.KeyValue) {
	if len(kvs) == 0 {
		return
	}
	if p.options.limit > 0 && p.count >= p.options.limit {
		p.end()
		return
	}
	next := p.rest()
	next.Key = keys.After(kvs[len(kvs)-1].Key)
	next.Limit = p.clamp(pageKeys)
	if p.options.bytes > 0 && !p.options.keysOnly {
		next.Limit = p.clamp(pageLimit(kvs, p.options.bytes))
	}
	if p.options.pinned && next.Revision == 0 {
		next.Revision = p.revision
	}
	p.next = next
}

// pageLimit returns how many key-values make a page of about this many bytes, if the next
// ones are like those that were read. It grows at most eightfold: they may be larger.
func pageLimit(read []*mvccpb.KeyValue, bytes int) int64 {
	size := 0
	for _, kv := range read {
		size += len(kv.Key) + len(kv.Value)
	}
	n := int64(len(read))
	return max(1, min(int64(bytes)*n/int64(max(size, 1)), 8*n))
}

// readAhead delivers the remaining pages, if any, and reads the next one while one is
// consumed.
func readAhead(ctx context.Context, pages *pager, deliver deliver) error {
	type page struct {
		kvs []*mvccpb.KeyValue
		err error
	}
	if !pages.more() {
		return nil
	}
	read, unwanted := make(chan page), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	// Owned by this call: it ends after the last page or when the consumer wants no more,
	// and the call waits for it, even if the consumer panics.
	var reader sync.WaitGroup
	var panicked any // what a hook panicked with
	defer func() {
		if panicked != nil {
			panic(panicked)
		}
	}()
	defer reader.Wait()
	defer cancel()
	defer close(unwanted)
	reader.Go(func() {
		defer close(read)
		defer func() { panicked = recover() }()
		for pages.more() {
			kvs, err := pages.read(ctx)
			// unwanted rather than ctx: the end of the caller's context must reach the
			// consumer.
			select {
			case read <- page{kvs, err}:
			case <-unwanted:
				return
			}
			if err != nil {
				return
			}
		}
	})
	for p := range read {
		if p.err != nil || !deliver(p.kvs) {
			return p.err
		}
	}
	return nil
}
