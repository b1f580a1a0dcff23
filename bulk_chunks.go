package etcd

import (
	"context"
	"iter"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/blueprint-go/etcd/internal/errs"
)

// chunkBytes is about the size of one chunk on the wire: large enough that a round trip
// costs little per key, and small enough not to hold up the server's other clients. It is
// below what the server's gRPC accepts whatever its limit (grpcOverhead). So when a chunk
// is refused for its size, it is always the server itself that refuses, which is certain.
const chunkBytes = 128 << 10

// operation is one operation of those that are sent in chunks.
type operation struct {
	key    string // without the namespace
	wire   *pb.RequestOp
	sealed *sealedPut // of wire; nil for none
	size   int        // as one of several in a transaction
	keys   int        // how many keys it is about, if not one
}

// operation returns an operation to send in a chunk, if a request can hold it.
func (c *Client) operation(key string, wire *pb.RequestOp, sealed *sealedPut) (operation, error) {
	const tag = 1
	op := operation{key: key, wire: wire, sealed: sealed, size: tag + protowire.SizeBytes(proto.Size(wire))}
	return op, c.rpc.CheckBytes(op.size)
}

// part is the outcome of operations that share one: those of a chunk, or of a piece of
// one.
type part struct {
	ops       []operation
	responses []*pb.ResponseOp
	revision  int64
	err       error // nil if they were applied
	unsent    bool  // another one failed before them
}

// chunk is what one transaction will hold.
type chunk struct {
	ops  []operation
	size int
	keys map[string]bool // of ops, if any may come twice
}

// chunker sends operations in chunks, several at a time. It belongs to the goroutine of
// run. Each chunk under way belongs to a goroutine of its own, which ends with its
// request, before run returns.
type chunker struct {
	client  *Client
	request request
	pacer   pacer
	// parallel is how many chunks may be under way; keys and bytes are what one may hold,
	// which go down if the server accepts less.
	parallel, keys, bytes int
	// repeats says that a key may come twice. The later operation is never sent
	// before the earlier one was applied.
	repeats bool
	// deliver takes the parts, in the order of the operations.
	deliver func(part)

	current  chunk
	underway []*sentChunk // in order
	failed   error        // of the first part that was not applied
}

func (c *Client) newChunker(r request, o chunkOptions, deliver func(part)) *chunker {
	// This doesn't count what nesting adds: some ten bytes for dozens of operations.
	bytes := min(chunkBytes, c.rpc.Largest-c.rpc.Largest/16)
	return &chunker{
		client: c, request: r, pacer: pacer{rate: o.rate}, parallel: o.parallel, keys: o.most(), bytes: bytes,
		deliver: deliver,
	}
}

// run sends the operations. After a failure it sends no more, and returns the first error
// in their order. If that error comes from the sequence, the unfinished chunk is not
// sent.
//
// A panic of the sequence or of deliver passes through, after the requests under way were
// cancelled and have ended.
func (s *chunker) run(ctx context.Context, ops iter.Seq2[operation, error]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for _, ch := range s.underway {
			<-ch.done
		}
	}()
	var stopped error
	for op, err := range ops {
		if err == nil {
			err = s.add(ctx, op)
		}
		if err != nil {
			stopped = err
			break
		}
	}
	if stopped == nil {
		s.hand(ctx)
	}
	s.landAll()
	if s.failed != nil {
		return s.failed
	}
	return stopped
}

// add puts an operation into the current chunk, and sends that chunk first if the
// operation doesn't fit into it.
func (s *chunker) add(ctx context.Context, op operation) error {
	for len(s.underway) > 0 && s.underway[0].landed() {
		s.land()
	}
	if ctx.Err() != nil {
		return fail(s.request.op, op.key, errs.OfContext(ctx))
	}
	if len(s.current.ops) >= s.keys || s.current.size+op.size > s.bytes {
		s.hand(ctx)
	}
	if s.repeats {
		s.await(ctx, op.key)
	}
	if s.failed != nil {
		return s.failed
	}
	s.current.ops, s.current.size = append(s.current.ops, op), s.current.size+op.size
	return nil
}

// await waits until no chunk that holds key is under way, and notes key for the current
// one.
func (s *chunker) await(ctx context.Context, key string) {
	waits := s.current.keys[key]
	for _, ch := range s.underway {
		waits = waits || ch.keys[key]
	}
	if waits {
		s.hand(ctx)
		s.landAll()
	}
	if s.current.keys == nil {
		s.current.keys = map[string]bool{} // not sized for s.keys: bytes may end the chunk long before
	}
	s.current.keys[key] = true
}

// hand sends the current chunk, as soon as there is room for it under way and the rate
// allows it.
func (s *chunker) hand(ctx context.Context) {
	for len(s.underway) > 0 && (len(s.underway) >= s.parallel || s.bytesUnderway()+s.current.size > s.parallel*s.bytes) {
		s.land()
	}
	if s.failed != nil || len(s.current.ops) == 0 {
		return
	}
	if !s.pacer.wait(ctx, s.client.rpc.Closing(), countKeys(s.current.ops)) {
		s.landAll() // the error is that of the first in order
		if s.failed == nil {
			s.failed = fail(s.request.op, s.current.ops[0].key, s.ended(ctx))
		}
		return
	}
	ch := &sentChunk{chunk: s.current, done: make(chan struct{}), mostKeys: s.keys, mostBytes: s.bytes}
	s.underway, s.current = append(s.underway, ch), chunk{}
	go func() {
		defer close(ch.done)
		defer func() { ch.panicked = recover() }()
		s.send(ctx, ch)
	}()
}

// bytesUnderway is the size of the requests under way. Values larger than a chunk are not
// sent several at a time: they share a connection, and each must arrive within its own
// deadline.
func (s *chunker) bytesUnderway() (n int) {
	for _, ch := range s.underway {
		n += ch.size
	}
	return n
}

// ended returns why the rate was not waited for.
func (s *chunker) ended(ctx context.Context) error {
	if s.client.rpc.IsClosed() {
		return ErrClosed
	}
	return errs.OfContext(ctx)
}

// countKeys returns how many keys operations are about.
func countKeys(ops []operation) (n int) {
	for _, op := range ops {
		n += max(op.keys, 1)
	}
	return n
}

// land waits for the first chunk under way, and delivers its parts.
func (s *chunker) land() {
	ch := s.underway[0]
	<-ch.done
	s.underway = s.underway[1:]
	if ch.panicked != nil {
		panic(ch.panicked)
	}
	s.keys, s.bytes = min(s.keys, ch.mostKeys), min(s.bytes, ch.mostBytes)
	for _, p := range ch.parts {
		if s.failed == nil {
			s.failed = p.err
		}
		s.deliver(p)
	}
}

func (s *chunker) landAll() {
	for len(s.underway) > 0 {
		s.land()
	}
}
