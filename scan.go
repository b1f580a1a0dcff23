package etcd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ScanOption changes [Client.Scan].
type ScanOption interface{ applyScan(*scanOptions) }

type scanOptions struct {
	getOptions
	keysOnly bool
	reverse  bool
	from     string
}

func (r revisionOption) applyScan(o *scanOptions)   { o.revision = int64(r) }
func (serializableOption) applyScan(o *scanOptions) { o.serializable = true }
func (l limitOption) applyScan(o *scanOptions)      { o.limit = int64(l) }

type keysOnlyOption struct{}

func (keysOnlyOption) applyScan(o *scanOptions) { o.keysOnly = true }

// WithKeysOnly reads no values: [KeyValue.Value] is nil.
func WithKeysOnly() ScanOption { return keysOnlyOption{} }

type reverseOption struct{}

func (reverseOption) applyScan(o *scanOptions) { o.reverse = true }

// WithReverse scans from the last key to the first. The server has no such order
// for pages: the keys, without their values, are read and held first.
func WithReverse() ScanOption { return reverseOption{} }

type fromKeyOption string

func (k fromKeyOption) applyScan(o *scanOptions) { o.from = string(k) }

// WithFromKey begins at a key, itself included; with [WithReverse] too, where it
// is the largest.
func WithFromKey(key string) ScanOption { return fromKeyOption(key) }

// Scan returns the key-values that begin with prefix, in the order of the keys, all
// at one revision, however many they are: no more than a few MiB of them are held
// at a time. The empty prefix means all keys.
//
//	for kv, err := range client.Scan(ctx, "/users/") {
//		if err != nil {
//			return err
//		}
//		…
//	}
//
// An error that matches [*DecodeError] concerns one value: the scan goes on after
// it, with the key-value complete but for the value. Any other error is the last
// thing that a scan yields. When the revision is compacted on the way, that is
// [ErrCompacted]: begin anew, or go on at a newer revision with [WithFromKey].
//
// The scan begins when it is ranged over, and again each time it is. Each request
// of it has [Config.RequestTimeout] unless ctx has a deadline; a lost connection
// is survived. Leaving the loop ends it and leaves nothing behind.
//
// The first keys come with one round trip. The others come in a stream, where the
// server has it (RangeStream, etcd 3.7), and in pages otherwise, of which the next
// is read while one is consumed.
func (c *Client) Scan(ctx context.Context, prefix string, opts ...ScanOption) iter.Seq2[KeyValue, error] {
	return func(yield func(KeyValue, error) bool) {
		s, err := c.newScan(ctx, prefix, opts)
		if err != nil {
			yield(KeyValue{}, fail("scan", prefix, err))
			return
		}
		for chunk, err := range s.chunks(ctx) {
			if err != nil {
				yield(KeyValue{}, err)
				return
			}
			for _, kv := range chunk {
				out, err := c.keyValue(ctx, kv, s.options.keysOnly)
				if !yield(out, answered("scan", out.Key, err)) {
					return
				}
			}
		}
	}
}

// scan is one range over a Scan.
type scan struct {
	client  *Client
	request request
	options scanOptions
	keys    keyRange
}

func (c *Client) newScan(ctx context.Context, prefix string, opts []ScanOption) (*scan, error) {
	if err := c.admit(ctx); err != nil {
		return nil, err
	}
	s := &scan{client: c, request: request{op: "scan", key: prefix}}
	for _, opt := range opts {
		opt.applyScan(&s.options)
	}
	if err := s.options.check(); err != nil {
		return nil, err
	}
	var err error
	if s.keys, err = c.prefixRange(prefix); err != nil || s.options.from == "" {
		return s, err
	}
	from, err := c.stored(s.options.from)
	switch {
	case err != nil:
	case s.options.reverse:
		s.keys.end = after(from)
	case bytes.Compare(from, s.keys.start) > 0:
		s.keys.start = from
	}
	return s, err
}

// chunks yields key-values in the order of the scan, some at a time.
type chunks = iter.Seq2[[]*mvccpb.KeyValue, error]

func (s *scan) chunks(ctx context.Context) chunks {
	if s.options.reverse {
		return s.backward(ctx)
	}
	return s.forward(ctx)
}

// forward reads the first page, which tells the revision of the scan, and then the
// rest in a stream or in pages.
func (s *scan) forward(ctx context.Context) chunks {
	return func(yield func([]*mvccpb.KeyValue, error) bool) {
		pages := s.client.newPager(s.request, s.keys, pagerOptions{
			getOptions: s.options.getOptions, keysOnly: s.options.keysOnly, pinned: true, bytes: scanBytes, first: firstScanned,
		})
		first, err := pages.read(ctx)
		if !yield(first, err) || err != nil || !pages.more() {
			return
		}
		if s.client.streams.usable() && !s.stream(ctx, pages, yield) {
			return
		}
		prefetched(ctx, pages)(yield)
	}
}

const (
	// scanBytes is about the size of a page.
	scanBytes = 1 << 20
	// firstScanned is how many keys a scan's first page asks for: few, so that
	// they come soon.
	firstScanned = 64
)

// stream yields what is left of pages from a stream and reports false, or reports
// true when the server has none; nothing was yielded then. A stream that breaks
// goes on, at the same revision, after the last key that came.
func (s *scan) stream(ctx context.Context, pages *pager, yield func([]*mvccpb.KeyValue, error) bool) (unsupported bool) {
	quietSince := time.Now()
	for failures := 1; ; failures++ {
		came, stopped, err := s.streamOnce(ctx, pages, yield)
		switch {
		case stopped || err == nil:
			return false
		case status.Code(err) == codes.Unimplemented && !came:
			s.client.streams.missing(time.Now())
			return true
		}
		if came {
			failures, quietSince = 1, time.Now()
		}
		trace := trace{client: s.client, request: s.request}
		again := trace.judge(ctx, err, true, failures)
		if again && time.Since(quietSince) >= s.client.cfg.RequestTimeout {
			yield(nil, &Error{Op: s.request.op, Key: s.request.key, Sent: true, Err: withKind(ErrTimeout, describe(trace.kind, err))})
			return false
		}
		if !again || !pause(ctx, s.client.closing, backoff(failures)) {
			yield(nil, trace.fail(ctx, err))
			return false
		}
	}
}

// streamOnce yields what comes on one stream. The stream ends with the call, so
// that nothing of it is left behind when the consumer wants no more.
func (s *scan) streamOnce(ctx context.Context, pages *pager, yield func([]*mvccpb.KeyValue, error) bool) (came, stopped bool, err error) {
	if err := s.client.auth.ensure(ctx); err != nil {
		return false, false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A server that says nothing for this long has failed the request; the
	// time that the consumer takes doesn't count.
	patience := time.AfterFunc(s.client.cfg.RequestTimeout, cancel)
	defer patience.Stop()
	req := pages.rest()
	stream, err := s.client.rpc.kv.RangeStream(ctx, req)
	for err == nil {
		var resp *pb.RangeStreamResponse
		resp, err = stream.Recv()
		if errors.Is(err, io.EOF) {
			return came, false, nil
		}
		kvs := resp.GetRangeResponse().GetKvs()
		if err != nil || len(kvs) == 0 {
			continue
		}
		patience.Stop()
		came = true
		pages.skip(kvs)
		if !yield(kvs, nil) {
			return came, true, nil
		}
		patience.Reset(s.client.cfg.RequestTimeout)
	}
	return came, false, err
}

// streamSupport remembers whether the servers have RangeStream. A server that has
// not is asked again after a while: it may have been upgraded.
type streamSupport struct{ lacking atomic.Int64 }

const streamProbe = 5 * time.Minute

func (s *streamSupport) usable() bool {
	at := s.lacking.Load()
	return at == 0 || time.Since(time.Unix(0, at)) > streamProbe
}

func (s *streamSupport) missing(now time.Time) { s.lacking.Store(now.UnixNano()) }

// prefetched yields the pages that are left, and reads the next one while one is
// consumed.
func prefetched(ctx context.Context, pages *pager) chunks {
	type result struct {
		kvs []*mvccpb.KeyValue
		err error
	}
	return func(yield func([]*mvccpb.KeyValue, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		results := make(chan result)
		// Owned by this range: it ends after the last page or with ctx, and the
		// range waits for it.
		ended := make(chan struct{})
		defer func() { cancel(); <-ended }()
		go func() {
			defer close(ended)
			defer close(results)
			for pages.more() {
				kvs, err := pages.read(ctx)
				select {
				case results <- result{kvs, err}:
				case <-ctx.Done():
					return
				}
				if err != nil {
					return
				}
			}
		}()
		for r := range results {
			if !yield(r.kvs, r.err) || r.err != nil {
				return
			}
		}
	}
}

// backward reads the keys forward, then the values in pieces from the end.
func (s *scan) backward(ctx context.Context) chunks {
	return func(yield func([]*mvccpb.KeyValue, error) bool) {
		options := s.options.getOptions
		limit := options.limit
		options.limit = 0 // the last keys are wanted, not the first
		pages := s.client.newPager(s.request, s.keys, pagerOptions{getOptions: options, keysOnly: true, pinned: true})
		var all []*mvccpb.KeyValue
		for pages.more() {
			kvs, err := pages.read(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			all = append(all, kvs...)
		}
		if limit > 0 {
			all = all[max(0, int64(len(all))-limit):]
		}
		if s.options.keysOnly {
			slices.Reverse(all)
			yield(all, nil)
			return
		}
		options.revision = pages.revision
		size := firstScanned
		for len(all) > 0 {
			n := min(size, len(all))
			piece := all[len(all)-n:]
			all = all[:len(all)-n]
			kvs, err := s.piece(ctx, options, piece)
			if !yield(kvs, err) || err != nil {
				return
			}
			size = int(pageLimit(kvs, scanBytes))
		}
	}
}

// piece reads the values of keys that follow one another, last first.
func (s *scan) piece(ctx context.Context, o getOptions, keys []*mvccpb.KeyValue) ([]*mvccpb.KeyValue, error) {
	r := keyRange{start: keys[0].Key, end: after(keys[len(keys)-1].Key)}
	resp, err := do(ctx, s.client, s.request, s.client.rpc.get, o.rangeRequest(r))
	if err != nil {
		return nil, err
	}
	slices.Reverse(resp.Kvs)
	return resp.Kvs, nil
}
