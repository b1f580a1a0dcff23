package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto" // registers the codec of gRPC itself
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// sealedPut is a put whose value is encrypted. Its value is sealed when the request
// is built, which tells its size, and once more when an attempt sends it under a key
// that has become the primary since: nothing is stored with an older key because the
// call that stores it began early.
//
// The puts of one request are a list, so that they cost no allocation of their own.
type sealedPut struct {
	codec *codec
	wire  pb.PutRequest
	value []byte // the caller's, who doesn't change it before the call returns
	// key sealed wire.Value; nil if it was sealed elsewhere (an import stores it as it
	// is), which stands for as long as the ring opens it and beside is the primary.
	key     *envelope.Key
	beside  *envelope.Key
	earlier [][]byte // what else attempts without an answer have sent
	next    *sealedPut
}

// link puts the puts in front of a list and returns it.
func (s *sealedPut) link(list *sealedPut) *sealedPut {
	if s == nil {
		return list
	}
	s.next = list
	return s
}

// isCurrent reports whether the value may be sent under these keys as it is sealed.
func (s *sealedPut) isCurrent(now *keySet) bool {
	if s.key == nil {
		id, _ := envelope.KeyIDOf(s.wire.Value)
		return s.beside == now.primary && now.ring.Lookup(id) != nil
	}
	return s.key == now.primary ||
		now.primary != nil && s.key.ID() == now.primary.ID() && s.key.Suite() == now.primary.Suite()
}

// renew seals the values of a list again that are not of the primary key any more,
// and reports whether there were any. lost tells that an attempt may have been
// applied with what they were.
func (c *codec) renew(ctx context.Context, list *sealedPut, lost bool) (bool, error) {
	if err := c.keyring.fresh(ctx); err != nil {
		return false, err
	}
	renewed := false
	for s := list; s != nil; s = s.next {
		if s.isCurrent(c.keyring.current()) {
			continue
		}
		stored, key, err := c.seal(ctx, s.wire.Key, s.value)
		if err != nil {
			return renewed, err
		}
		if lost {
			s.earlier = append(s.earlier, s.wire.Value)
		}
		s.wire.Value, s.key, renewed = stored, key, true
	}
	return renewed, nil
}

// earlierOf returns what else may have been stored for a put of the list.
func (s *sealedPut) earlierOf(put *pb.PutRequest) [][]byte {
	for ; s != nil; s = s.next {
		if &s.wire == put {
			return s.earlier
		}
	}
	return nil
}

// sealingCall is a call of a request with encrypted values. It is the codec of its
// own message: gRPC encodes that when it has a stream for it, so that no wait for a
// connection lies between the last look at the keyring and the bytes that are sent.
type sealingCall struct {
	call
	opts   [3]grpc.CallOption
	codec  grpc.ForceCodecV2CallOption
	ctx    context.Context // of the attempt
	trace  *trace
	failed error // why the values could not be sealed again; nothing was sent then
}

var protoCodec = encoding.GetCodecV2(grpcproto.Name)

// sealing makes one RPC of a request with encrypted values.
func sealing[In, Out any](ctx context.Context, t *trace, rpc unary[In, Out], in In) (Out, bool, error) {
	s := &sealingCall{ctx: ctx, trace: t}
	s.codec.CodecV2 = s
	s.opts = [3]grpc.CallOption{grpc.Peer(&s.peer), noReplay, &s.codec}
	out, err := rpc(ctx, in, s.opts[:]...)
	t.to = s.peer.Addr
	if s.failed != nil {
		return out, false, &unsealedError{s.failed}
	}
	return out, s.peer.Addr != nil, err
}

// Marshal implements encoding.CodecV2.
func (s *sealingCall) Marshal(message any) (mem.BufferSlice, error) {
	seals := s.trace.request.seals
	renewed, err := seals.codec.renew(s.ctx, seals, s.trace.maybeApplied)
	if err == nil && renewed { // the suite may be another one, too, and with it the size
		if m, ok := message.(proto.Message); ok {
			err = s.trace.conn.checkSize(m)
		}
	}
	if err != nil {
		s.failed = err
		return nil, err
	}
	return protoCodec.Marshal(message)
}

// Unmarshal implements encoding.CodecV2.
func (s *sealingCall) Unmarshal(data mem.BufferSlice, message any) error {
	return protoCodec.Unmarshal(data, message)
}

// Name implements encoding.CodecV2. It is empty, for the content type of a call
// without a codec of its own.
func (s *sealingCall) Name() string { return "" }

// unsealedError is why an attempt was not made: its values could not be sealed again.
type unsealedError struct{ err error }

func (e *unsealedError) Error() string { return e.err.Error() }
func (e *unsealedError) Unwrap() error { return e.err }

// unsealed returns the error of a request whose values could not be sealed again.
func (t *trace) unsealed(err *unsealedError, in any) error {
	e := &Error{Op: t.request.op, Key: t.request.key, Sent: t.sent, MaybeApplied: t.maybeApplied, Err: err.err}
	if t.maybeApplied {
		e.lost = t.conn.lose(in, t.request.seals)
	}
	return e
}

func asUnsealed(err error) (*unsealedError, bool) { return errors.AsType[*unsealedError](err) }
