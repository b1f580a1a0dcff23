package etcd

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// rangeStream reads what is left of a pager's range from the server's RangeStream. For do
// (request.go) each chunk is a request of its own, with its deadline, hooks and attempts;
// another attempt opens the stream anew, behind the last key that came. So a silent
// server ends a scan, and a slow consumer doesn't. It is for one goroutine.
type rangeStream struct {
	pages  *pager
	stream pb.KV_RangeStreamClient // nil while none is open
	cancel context.CancelFunc      // ends stream, with all that gRPC keeps for it
	// last reports whether the newest chunk was marked as the last one of the range,
	// by a header.
	last bool
	// vain counts the streams in a row that brought nothing; useless reports whether the
	// rest is to be read in pages.
	vain    int
	useless bool
}

// read reads the next chunk. It is empty at the end, and when the server has no streams;
// the pager then knows what is left.
func (s *rangeStream) read(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	p := s.pages
	r := p.request
	r.single = true // there is one stream
	resp, err := do(ctx, p.client.conn, r, s.receive, p.rest())
	if err != nil {
		return nil, err
	}
	return p.take(ctx, resp.Kvs)
}

// receive is one attempt to get a chunk, in the shape of a unary RPC.
func (s *rangeStream) receive(ctx context.Context, rest *pb.RangeRequest, opts ...grpc.CallOption) (*pb.RangeResponse, error) {
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err() // even if a chunk has already arrived
	}
	// The stream outlives the attempt that opens it, but not an attempt that waits for it
	// in vain.
	life := context.WithoutCancel(ctx)
	if s.stream == nil {
		life, s.cancel = context.WithCancel(life)
	}
	defer context.AfterFunc(ctx, s.cancel)()
	err := s.open(life, rest)
	if err == nil {
		if to, ok := peer.FromContext(s.stream.Context()); ok {
			rpc.NotePeer(opts, to)
		}
	}
	for err == nil {
		var resp *pb.RangeStreamResponse
		if resp, err = s.stream.Recv(); err == nil {
			s.last = resp.GetRangeResponse().GetHeader() != nil
		}
		if len(resp.GetRangeResponse().GetKvs()) > 0 {
			s.vain = 0
			return resp.RangeResponse, nil
		}
	}
	if errors.Is(err, io.EOF) && !s.last {
		// A proxy, or a server that is being stopped, may end a stream in good order.
		err = status.Error(codes.Unavailable, "range stream ended before its last chunk")
	}
	s.close()
	switch {
	case ctx.Err() != nil: // gRPC only saw that the stream was cancelled
		return nil, status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, io.EOF):
		s.pages.streamEnded()
	case refusesStreams(err):
		s.pages.client.streams.missing()
	case s.inVain(err):
		s.useless = true
	default:
		return nil, err
	}
	return &pb.RangeResponse{}, nil
}

// refusesStreams reports whether err refuses a stream as such, not what it asks for:
// servers before etcd 3.7 do, and proxies that only know the older requests. An error of
// etcd's own would meet a page as well.
func refusesStreams(err error) bool {
	if status.Code(err) == codes.Unimplemented {
		return true
	}
	if rpc.IsWeb(status.Convert(err).Message()) {
		return true
	}
	a := rpc.Interpret(err)
	return !a.Own && a.Remedy == rpc.RetryElsewhere
}

// maxVain bounds the streams that end before they bring anything, for any passing reason.
// If streams never bring more than that, pages may still work.
const maxVain = 3

func (s *rangeStream) inVain(err error) bool {
	if a := rpc.Interpret(err); a.Own || a.Remedy != rpc.RetryRead {
		return false
	}
	s.vain++
	return s.vain >= maxVain
}

func (s *rangeStream) open(ctx context.Context, rest *pb.RangeRequest) (err error) {
	if s.stream == nil {
		s.stream, err = s.pages.client.rpc.Range(ctx, rest)
	}
	return err
}

// close ends the stream, if there is one.
func (s *rangeStream) close() {
	if s.cancel != nil {
		s.cancel()
	}
	s.stream, s.cancel, s.last = nil, nil, false
}
