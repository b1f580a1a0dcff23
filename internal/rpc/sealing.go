package rpc

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
)

// Seals are the values of a message that are encrypted.
type Seals interface {
	// Seal brings the message up to date and calls encode, which makes its bytes, or
	// returns why it can't. What is not of the primary key any more is encrypted again;
	// changed says that there was any. lost says that an attempt may have been applied
	// with what is there.
	Seal(ctx context.Context, lost bool, encode func(changed bool) error) error
}

// Recaller is what Seals may be as well, to be told after an attempt that will be followed by
// another one that it was certainly not applied, and why.
type Recaller interface{ NotApplied(reason error) }

// sealing makes one RPC of a request with encrypted values.
func sealing[In, Out any](ctx context.Context, t *trace, send Unary[In, Out], in In) (Out, bool, error) {
	s := &sealingCall{ctx: ctx, conn: t.conn, seals: t.request.Seals, lost: t.maybeApplied}
	s.codec.CodecV2 = s
	s.opts = [4]grpc.CallOption{grpc.Peer(&s.peer), noReplay, grpc.StaticMethod(), &s.codec}
	out, err := send(ctx, in, s.opts[:]...)
	t.to = s.peer.Addr
	if s.failed != nil {
		return out, false, &unsealedError{s.failed}
	}
	return out, s.peer.Addr != nil, err
}

// sealingCall is a call of a request with encrypted values. It is the codec of its
// own message: gRPC encodes that when it has a stream for it, so that no wait for a
// connection lies between the last look at the keyring and the bytes that are sent.
type sealingCall struct {
	peer   peer.Peer
	opts   [4]grpc.CallOption
	codec  grpc.ForceCodecV2CallOption
	ctx    context.Context // of the attempt
	conn   *Conn
	seals  Seals
	lost   bool  // an attempt before may have been applied
	failed error // why the values could not be sealed again; nothing was sent then
}

// Marshal implements encoding.CodecV2.
func (s *sealingCall) Marshal(message any) (mem.BufferSlice, error) {
	var out mem.BufferSlice
	s.failed = s.seals.Seal(s.ctx, s.lost, func(changed bool) (err error) {
		if m, ok := message.(proto.Message); ok && changed { // the suite may be another one, too, and with it the size
			if err := s.conn.CheckSize(m); err != nil {
				return err
			}
		}
		out, err = protoCodec.Marshal(message)
		return err
	})
	return out, s.failed
}

// Unmarshal implements encoding.CodecV2.
func (s *sealingCall) Unmarshal(data mem.BufferSlice, message any) error {
	return protoCodec.Unmarshal(data, message)
}

// Name implements encoding.CodecV2. It is empty, for the content type of a call
// without a codec of its own.
func (s *sealingCall) Name() string { return "" }

var protoCodec = encoding.GetCodecV2(grpcproto.Name)

// unsealedError is why an attempt was not made: its values could not be sealed again.
type unsealedError struct{ err error }

func (e *unsealedError) Error() string { return e.err.Error() }

func (e *unsealedError) Unwrap() error { return e.err }

func asUnsealed(err error) (*unsealedError, bool) { return errors.AsType[*unsealedError](err) }
