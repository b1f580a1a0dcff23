package etcd

import (
	"context"
	"iter"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

const opDeletePrefix = "delete prefix"

// DeletePrefix deletes the keys that begin with prefix and returns how many it deleted.
// The empty prefix is refused with [ErrEmptyPrefix] unless [WithAllKeys] is given.
//
// It is atomic and takes one round trip. The server deletes 50,000 to 200,000 keys a
// second and does nothing else meanwhile: a million keys hold up everybody for 5 s or
// more, and after 7 s the server itself gives up waiting, whatever the deadline.
//
// [InChunks] avoids that and gives up atomicity: it lists the keys in pages and deletes
// them in ranges of [DefaultChunkKeys], several at a time, each in a revision of its own
// and with [Config.RequestTimeout] unless ctx has a deadline. It deletes every key that
// existed when the call began; keys created meanwhile may be deleted too. When it fails,
// it returns how many keys are certainly deleted; the same call deletes the rest.
func (c *Client) DeletePrefix(ctx context.Context, prefix string, opts ...DeletePrefixOption) (int64, error) {
	o, err := deletePrefixOptionsOf(opts)
	if err == nil {
		err = o.checkPrefix(prefix)
	}
	if err != nil {
		return 0, fail(opDeletePrefix, prefix, err)
	}
	rng, err := c.prefixRange(prefix)
	if err != nil {
		return 0, fail(opDeletePrefix, prefix, err)
	}
	r := request{op: opDeletePrefix, key: prefix}
	if r.compares, err = o.compares(c); err != nil {
		return 0, r.fail(err)
	}
	if o.chunked {
		return c.deleteInChunks(ctx, r, rng, o)
	}
	var deleted int64
	if len(r.compares) > 0 {
		deleted, err = c.deleteIf(ctx, r, Op{kind: kindDelete, reach: underPrefix, key: prefix, delete: o})
	} else {
		deleted, err = c.deleteRange(ctx, r, rng, o)
	}
	return deleted, hint(err, "the keys may be too many for the time: InChunks deletes them in chunks")
}

// deleteInChunks deletes adjacent ranges, from the beginning of rng to its end.
func (c *Client) deleteInChunks(ctx context.Context, r request, rng keys.Range, o deleteOptions) (int64, error) {
	if err := c.admit(ctx); err != nil {
		return 0, r.fail(err)
	}
	var deleted int64
	listing := r
	r.write = true
	report := chunkReport{request: r}
	chunks := c.newChunker(report.request, o.chunks.ofRanges(), func(p part) {
		report.add(p)
		for _, r := range p.responses {
			deleted += r.GetResponseDeleteRange().GetDeleted()
		}
	})
	// Not at one revision: whatever was listed gets deleted in any case, and a compaction
	// on the way does no harm.
	pages := c.newPager(listing, rng, pagerOptions{keysOnly: true, claims: true})
	err := chunks.run(ctx, c.deletions(ctx, pages, rng, o.chunks.most()))
	switch {
	case err != nil:
		err = report.summary(err)
	case report.revision == 0: // there was nothing to delete
		report.revision = pages.revision
	}
	o.tellRevision(report.revision)
	return deleted, err
}

// deletions yields deletions that together cover all of rng, each of a range in which
// pages finds n keys.
func (c *Client) deletions(ctx context.Context, pages *pager, rng keys.Range, n int) iter.Seq2[operation, error] {
	return func(yield func(operation, error) bool) {
		found, rest := 0, rng
		for pages.more() {
			page, err := pages.read(ctx)
			if err != nil {
				yield(operation{}, err)
				return
			}
			for _, kv := range page {
				if found == n {
					if !yield(c.deletion(keys.Range{Start: rest.Start, End: kv.Key}, found)) {
						return
					}
					found, rest.Start = 0, kv.Key
				}
				found++
			}
		}
		if found > 0 {
			yield(c.deletion(rest, found))
		}
	}
}

// deletion returns the deletion of a range of n keys.
func (c *Client) deletion(rng keys.Range, n int) (operation, error) {
	key := c.visible(rng.Start)
	req := &pb.DeleteRangeRequest{Key: rng.Start, RangeEnd: rng.End}
	op, err := c.operation(key, txntree.Delete(req), nil)
	op.keys = n
	if err != nil {
		err = fail(opDeletePrefix, key, err)
	}
	return op, err
}
