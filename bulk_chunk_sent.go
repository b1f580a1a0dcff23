package etcd

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// sentChunk is a chunk under way. Until done is closed it belongs to the goroutine that
// sends it, and after that to the chunker's.
type sentChunk struct {
	chunk
	done  chan struct{} // closed when parts are known
	parts []part
	// mostKeys and mostBytes are what one transaction may hold. They go down when the
	// server accepts less.
	mostKeys, mostBytes int
	// panicked is the panic value of a hook.
	panicked any
}

// landed reports whether the outcome of the chunk is known.
func (ch *sentChunk) landed() bool {
	select {
	case <-ch.done:
		return true
	default:
		return false
	}
}

// send sends a chunk in one transaction, or in several if the server refuses it for its
// size: as large as the server accepts, found by halving.
func (s *chunker) send(ctx context.Context, ch *sentChunk) {
	for rest := ch.ops; len(rest) > 0; {
		p := s.sendPart(ctx, rest[:ch.fitting(rest)])
		if ch.shrink(p) {
			continue
		}
		ch.parts, rest = append(ch.parts, p), rest[len(p.ops):]
		if p.err != nil && len(rest) > 0 {
			ch.parts, rest = append(ch.parts, part{ops: rest, err: p.err, unsent: true}), nil
		}
	}
}

func (s *chunker) sendPart(ctx context.Context, ops []operation) part {
	p := part{ops: ops}
	wire := make([]*pb.RequestOp, len(ops))
	r := s.request
	r.key = ops[0].key
	for i, op := range ops {
		wire[i], r.seals = op.wire, op.sealed.link(r.seals)
	}
	p.responses, p.revision, p.err = s.client.sendBulk(ctx, r, wire)
	if p.err != nil {
		p.err = hint(p.err, s.advice(ops))
	}
	return p
}

// advice says what to do about operations that took too long.
func (s *chunker) advice(ops []operation) string {
	size := 0
	for _, op := range ops {
		size += op.size
	}
	return fmt.Sprintf("a chunk of %d keys and %d bytes, one of up to %d at a time: WithChunkKeys and WithParallelism make them smaller and fewer, "+
		"Config.RequestTimeout or a deadline gives each more time", countKeys(ops), size, s.parallel)
}

// fitting returns how many of the operations fit into one transaction.
func (ch *sentChunk) fitting(ops []operation) int {
	n, size := 0, 0
	for n < min(len(ops), ch.mostKeys) {
		size += ops[n].size
		if n > 0 && size > ch.mostBytes {
			break
		}
		n++
	}
	return n
}

// shrink reports whether p was refused for its size, and then makes the chunk's limits
// smaller, so that less may be accepted.
func (ch *sentChunk) shrink(p part) bool {
	if len(p.ops) == 1 || MaybeApplied(p.err) {
		return false
	}
	switch {
	case errors.Is(p.err, ErrTooManyOps):
		ch.mostKeys = len(p.ops) / 2
	case errors.Is(p.err, ErrTooLarge):
		size := 0
		for _, op := range p.ops {
			size += op.size
		}
		ch.mostBytes = size / 2
	default:
		return false
	}
	return true
}
