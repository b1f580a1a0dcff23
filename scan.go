package etcd

import (
	"bytes"
	"context"
	"errors"
	"iter"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// Scan returns the key-values that begin with prefix, in the order of the keys, all at
// one revision. However many there are, it holds only a few MiB in memory at a time. The
// empty prefix means all keys.
//
//	for kv, err := range client.Scan(ctx, "/users/") {
//		if err != nil {
//			return err
//		}
//		…
//	}
//
// An error that matches [*DecodeError] concerns one value: the key-value is complete
// except for it, and the scan goes on. Any other error is the last thing that a scan
// yields, with an empty key-value. If the revision is compacted during the scan, the
// error is [ErrCompacted]: start again, or continue at a newer revision by [WithFromKey].
//
// The scan begins each time it is ranged over, if need be in several goroutines at once.
// Leaving the loop ends it and leaves nothing behind. Each of its requests has
// [Config.RequestTimeout], unless ctx has a deadline; the time that the loop's body takes
// doesn't count. The scan survives a lost connection.
//
// The keys come in a stream, if the server has that (RangeStream, since etcd 3.7): the
// first ones after two round trips, or one [WithRevision], however many there are. Other
// servers send pages; the next page is read while one is consumed. A page is about 1 MiB
// if its values are as large as those before.
func (c *Client) Scan(ctx context.Context, prefix string, opts ...ScanOption) iter.Seq2[KeyValue, error] {
	return func(yield func(KeyValue, error) bool) {
		s, err := c.newScan(ctx, prefix, opts)
		if err != nil {
			yield(KeyValue{}, fail(opScan, prefix, err))
			return
		}
		if err := s.run(ctx, s.converted(ctx, yield)); err != nil {
			yield(KeyValue{}, err)
		}
	}
}

const opScan = "scan"

// scan is one range over a Scan.
type scan struct {
	client  *Client
	request request
	options scanOptions
	keys    keys.Range
}

// deliver takes the next key-values of a scan and reports whether it wants more.
type deliver func([]*mvccpb.KeyValue) bool

func (c *Client) newScan(ctx context.Context, prefix string, opts []ScanOption) (*scan, error) {
	if err := c.admit(ctx); err != nil {
		return nil, err
	}
	s := &scan{client: c, request: request{op: opScan, key: prefix}}
	if err := optionsOf(opts, &s.options, ScanOption.applyScan); err != nil {
		return nil, err
	}
	if err := s.options.check(); err != nil {
		return nil, err
	}
	var err error
	if s.keys, err = c.prefixRange(prefix); err != nil || s.options.from == "" {
		return s, err
	}
	from, err := c.storedBound(s.options.from)
	if s.options.reverse {
		s.keys = s.keys.Before(keys.After(from))
	} else if bytes.Compare(from, s.keys.Start) > 0 {
		s.keys.Start = from
	}
	return s, err
}

// converted returns a deliver that converts key-values of the wire and yields them.
func (s *scan) converted(ctx context.Context, yield func(KeyValue, error) bool) deliver {
	return func(kvs []*mvccpb.KeyValue) bool {
		d := s.client.codec.decoding(ctx)
		defer d.end()
		if !s.options.keysOnly {
			d.prepare(kvs)
		}
		for _, kv := range kvs {
			out, err := d.keyValue(kv, s.options.keysOnly)
			// An unavailable key ends the scan: nobody would come back for the value.
			if !yield(out, answered(opScan, out.Key, err)) || errors.Is(err, ErrKeyUnavailable) {
				return false
			}
		}
		return true
	}
}

// run delivers the key-values in the order of the scan, until they end or no more are
// wanted.
func (s *scan) run(ctx context.Context, deliver deliver) error {
	switch {
	case s.keys.Empty():
		return nil
	case s.options.reverse:
		return s.backward(ctx, deliver)
	default:
		return forward(ctx, s.pages(s.options.getOptions, s.options.keysOnly), deliver)
	}
}

// scanBytes is about the size of a page.
const scanBytes = 1 << 20

// pages returns a pager for reading forward.
func (s *scan) pages(o getOptions, keysOnly bool) *pager {
	return s.client.newPager(s.request, s.keys, pagerOptions{getOptions: o, keysOnly: keysOnly, pinned: true, bytes: scanBytes})
}

// forward delivers all of pages, from a stream if possible.
//
// It asks for the revision first, by a request of its own: a stream tells it only at the
// end, so one that fails could not be continued. The first page would tell it too, but to
// read a page the server counts all remaining keys, which takes a tenth of a second for a
// million; a stream begins at once.
func forward(ctx context.Context, pages *pager, deliver deliver) error {
	streams := &pages.client.streams
	if streams.usable() {
		if err := pages.pin(ctx); err != nil {
			return err
		}
	}
	stream := rangeStream{pages: pages}
	defer stream.close()
	for pages.more() && streams.usable() && !stream.useless {
		kvs, err := stream.read(ctx)
		if errors.Is(err, ErrTooLarge) {
			break // a page can be made smaller
		}
		if err != nil || !deliver(kvs) {
			return err
		}
	}
	return readAhead(ctx, pages, deliver)
}
