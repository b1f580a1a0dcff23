package integration

import (
	"context"
	"fmt"
	"iter"
	"path"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// load stores n keys under p, with values of size bytes.
func load(tb testing.TB, c *etcd.Client, p string, n, size int) {
	tb.Helper()
	each := 800_000 / size // well under the limit of a request
	for i := 0; i < n; i += each {
		kvs := make(map[string][]byte, each)
		for j := i; j < min(i+each, n); j++ {
			kvs[fmt.Sprintf("%s%08d", p, j)] = make([]byte, size)
		}
		require.NoError(tb, c.BulkPut(tb.Context(), kvs))
	}
}

// heap is the memory that objects take, those not yet collected included.
func heap() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// streams stands in a server before its range streams and the pages that are read
// where there are none. Both are counted as parts: chunks of a stream and pages.
type streams struct {
	// unsupported makes the server one without range streams.
	unsupported bool

	mu    sync.Mutex
	nth   int64
	act   func(context.Context) error
	end   error
	begun atomic.Int64 // streams
	// running counts the streams that have not ended.
	running sync.WaitGroup
}

// before has act called before the server sends the nth part from now on, once.
// Its error ends the stream, or is the answer in place of the page.
func (f *streams) before(nth int64, act func(context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nth, f.act = nth, act
}

// endWith has the next stream that is complete end with an error all the same.
func (f *streams) endWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end = err
}

// completed is called when a stream is complete.
func (f *streams) completed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.end
	f.end = nil
	return err
}

// part is called before each part.
func (f *streams) part(ctx context.Context) error {
	f.mu.Lock()
	f.nth--
	act := f.act
	if f.nth != 0 {
		act = nil
	}
	f.mu.Unlock()
	if act == nil {
		return nil
	}
	return act(ctx)
}

func (f *streams) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if path.Base(info.FullMethod) == "Range" {
		if err := f.part(ctx); err != nil {
			return nil, err
		}
	}
	return handler(ctx, req)
}

func (f *streams) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if path.Base(info.FullMethod) != "RangeStream" {
		return handler(srv, ss)
	}
	f.begun.Add(1)
	f.running.Add(1)
	defer f.running.Done()
	if f.unsupported {
		return status.Error(codes.Unimplemented, "unknown method RangeStream")
	}
	parts := &partStream{ServerStream: ss, streams: f}
	err := handler(srv, parts)
	switch {
	case parts.broken != nil:
		return parts.broken // the server puts an error of SendMsg in its own words
	case err != nil:
		return err
	}
	return f.completed()
}

// idle waits until the server serves no range stream.
func (f *streams) idle(t *testing.T) {
	t.Helper()
	done := make(chan struct{})
	go func() { f.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("a range stream was left behind")
	}
}

// silent keeps a part from being sent until the client gives up.
func silent(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// scan returns all that a scan yields.
func scan(t *testing.T, seq iter.Seq2[etcd.KeyValue, error]) []etcd.KeyValue {
	t.Helper()
	kvs, err := collect(t, seq)
	require.NoError(t, err)
	return kvs
}

// filledAtOnce is how many keys go into one request: a busy server has some seconds for it,
// whatever the client has.
const filledAtOnce = 2500

// fill stores n keys under p, each with its own number as the value.
func fill(t testing.TB, c *etcd.Client, p string, n int) {
	t.Helper()
	fillWith(t, c, p, n, nil)
}

// list is what a forward scan of everything under p is to yield.
func list(t *testing.T, c *etcd.Client, p string) []etcd.KeyValue {
	t.Helper()
	kvs, err := c.GetPrefix(t.Context(), p, 0)
	require.NoError(t, err)
	return kvs
}

// change changes, deletes and adds keys all over p.
func change(t *testing.T, c *etcd.Client, p string) {
	t.Helper()
	kvs := map[string][]byte{}
	for i := range 20 {
		kvs[fmt.Sprintf("%s%05d", p, i*100)] = []byte("changed")
		kvs[fmt.Sprintf("%s%05d+", p, i*100+1)] = []byte("added")
	}
	require.NoError(t, c.BulkPut(t.Context(), kvs))
	_, err := c.DeletePrefix(t.Context(), p+"00050")
	require.NoError(t, err)
	_, err = c.DeletePrefix(t.Context(), p+"01950")
	require.NoError(t, err)
	require.NoError(t, c.Put(t.Context(), p+"01950", []byte("back again")))
}

// scanWatchingTheHeap scans with a consumer that works for so long on a thousand
// keys, and returns how many keys there are and by how much the heap grows.
func scanWatchingTheHeap(tb testing.TB, c *etcd.Client, p string, work time.Duration, opts ...etcd.ScanOption) (keys int, growth int64) {
	tb.Helper()
	runtime.GC()
	before := heap()
	for _, err := range c.Scan(tb.Context(), p, opts...) {
		if err != nil {
			require.NoError(tb, err)
		}
		if keys++; keys%1000 == 0 {
			growth = max(growth, heap()-before)
			<-time.After(work)
		}
	}
	return keys, growth
}

// manyKeys stores more keys than one page holds.
func manyKeys(t *testing.T, c *etcd.Client, p string) []string {
	t.Helper()
	keys := make([]string, 10_050)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s%05d", p, i)
	}
	for some := range slices.Chunk(keys, filledAtOnce) {
		kvs := make(map[string][]byte, len(some))
		for _, key := range some {
			kvs[key] = []byte("v")
		}
		require.NoError(t, c.BulkPut(t.Context(), kvs))
	}
	return keys
}

// streamingServer returns a server with streams in it.
func streamingServer(t testing.TB, f *streams, opts ...etcdtest.Option) *etcdtest.Server {
	t.Helper()
	return server(t, append(opts, etcdtest.WithGRPCServerOptions(
		grpc.ChainUnaryInterceptor(f.unary), grpc.ChainStreamInterceptor(f.stream)))...)
}

type partStream struct {
	grpc.ServerStream
	streams *streams
	broken  error
}

func (s *partStream) SendMsg(m any) error {
	if s.broken = s.streams.part(s.Context()); s.broken != nil {
		return s.broken
	}
	return s.ServerStream.SendMsg(m)
}

// inEachWay runs a test with a server that has range streams and with one that
// hasn't.
func inEachWay(t *testing.T, test func(t *testing.T, c *etcd.Client, f *streams)) {
	t.Helper()
	for way, unsupported := range map[string]bool{"stream": false, "pages": true} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			f := &streams{unsupported: unsupported}
			test(t, client(t, config(streamingServer(t, f)).WithTimeout(busyTimeout)), f)
		})
	}
}

// collect returns what a scan yields, and its error, after which nothing comes.
func collect(t *testing.T, seq iter.Seq2[etcd.KeyValue, error]) (kvs []etcd.KeyValue, last error) {
	t.Helper()
	for kv, err := range seq {
		require.NoError(t, last, "nothing comes after an error")
		if last = err; err == nil {
			kvs = append(kvs, kv)
		} else {
			require.Zero(t, kv)
		}
	}
	return kvs, last
}

// fillWith is fill with something before the numbers.
func fillWith(t testing.TB, c *etcd.Client, p string, n int, before []byte) {
	t.Helper()
	for first := 0; first < n; first += filledAtOnce {
		kvs := map[string][]byte{}
		for i := first; i < min(first+filledAtOnce, n); i++ {
			kvs[fmt.Sprintf("%s%05d", p, i)] = fmt.Append(slices.Clone(before), i)
		}
		require.NoError(t, c.BulkPut(t.Context(), kvs))
	}
}

// selection says which key-values a scan is to yield.
type selection struct {
	limit    int
	from     string
	reverse  bool
	keysOnly bool
}

func (s selection) options() []etcd.ScanOption {
	opts := []etcd.ScanOption{etcd.WithLimit(int64(s.limit)), etcd.WithFromKey(s.from)}
	if s.reverse {
		opts = append(opts, etcd.WithReverse())
	}
	if s.keysOnly {
		opts = append(opts, etcd.WithKeysOnly())
	}
	return opts
}

// of picks from all key-values, which are in order.
func (s selection) of(all []etcd.KeyValue) []etcd.KeyValue {
	out := []etcd.KeyValue(nil)
	for _, kv := range all {
		if s.from == "" || s.reverse && kv.Key <= s.from || !s.reverse && kv.Key >= s.from {
			if s.keysOnly {
				kv.Value = nil
			}
			out = append(out, kv)
		}
	}
	if s.reverse {
		slices.Reverse(out)
	}
	if s.limit > 0 && len(out) > s.limit {
		out = out[:s.limit]
	}
	return out
}
