package integration

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// losses are ways in which an answer can lose parts on its way.
var losses = map[string]func(answer proto.Message){
	"all":    proto.Reset,
	"header": func(m proto.Message) { clearField(m, "header") },
	"id":     func(m proto.Message) { clearField(m, "ID") },
	"keys":   func(m proto.Message) { clearField(m, "kvs") },
	"the last response": ofTxn(func(r *pb.TxnResponse) {
		r.Responses = r.Responses[:max(0, len(r.Responses)-1)]
	}),
	"what the responses are": ofTxn(func(r *pb.TxnResponse) {
		for i := range r.Responses {
			r.Responses[i] = &pb.ResponseOp{}
		}
	}),
	"of which kind the responses are": ofTxn(func(r *pb.TxnResponse) {
		for i := range r.Responses {
			r.Responses[i] = &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}}
		}
	}),
	"the nested responses": ofTxn(func(r *pb.TxnResponse) {
		for _, op := range r.Responses {
			if txn := op.GetResponseTxn(); txn != nil {
				txn.Responses = nil
			}
		}
	}),
	"which branch it was": ofTxn(func(r *pb.TxnResponse) { r.Succeeded = !r.Succeeded }),
}

func ofTxn(lose func(*pb.TxnResponse)) func(proto.Message) {
	return func(m proto.Message) {
		if r, ok := m.(*pb.TxnResponse); ok {
			lose(r)
		}
	}
}

func clearField(m proto.Message, name string) {
	r := m.ProtoReflect()
	for i := range r.Descriptor().Fields().Len() {
		if f := r.Descriptor().Fields().Get(i); string(f.Name()) == name {
			r.Clear(f)
		}
	}
}

// loss is what the answers of a server lose: those to all requests, or to writes.
type loss struct {
	ofWrites bool
	lose     func(answer proto.Message)
}

// lossyServer returns a server whose answers have the loss that is stored.
func lossyServer(t *testing.T) (*etcdtest.Server, *atomic.Pointer[loss]) {
	t.Helper()
	var lose atomic.Pointer[loss]
	return server(t, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			resp, err := handler(ctx, req)
			if l := lose.Load(); l != nil && err == nil && (!l.ofWrites || writes(req)) {
				l.lose(resp.(proto.Message))
			}
			return resp, err
		}))), &lose
}

func TestAnswerThatLacksPartsIsATypedError(t *testing.T) {
	t.Parallel()
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			srv, lose := lossyServer(t)
			c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
			for what, f := range losses {
				for name, call := range calls {
					lose.Store(nil)
					require.NoError(t, c.Put(t.Context(), "k", []byte("value")))
					lose.Store(&loss{lose: f})
					ctx, cancel := context.WithCancel(t.Context())
					if isWatch(name) {
						cancel() // it doesn't end by itself, and has no unary requests
					}
					var err error
					require.NotPanics(t, func() { err = call(ctx, c) }, "%s without %s", name, what)
					cancel()
					requireHonest(t, err, fmt.Sprint(name, " without ", what))
				}
			}
			lose.Store(nil)
		})
	}
}

// requireHonest holds that an error is one of this package, and that one about an
// incomplete answer does not deny what may have been applied.
func requireHonest(t *testing.T, err error, msg string) {
	t.Helper()
	if err == nil {
		return
	}
	var e *etcd.Error
	require.ErrorAs(t, err, &e, msg)
	if errors.Is(err, etcd.ErrServer) {
		require.True(t, e.Sent, msg)
	}
}

// TestIncompleteAnswerToAWriteIsUnknown holds for writes of each kind that what was
// carried out is not denied.
func TestIncompleteAnswerToAWriteIsUnknown(t *testing.T) {
	t.Parallel()
	srv, lose := lossyServer(t)
	unknown := 0
	for _, m := range modes[1:3] {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		for what, f := range losses {
			for _, w := range writesOfTheAPI {
				name := fmt.Sprint(m.name, ": ", w.name, " without ", what)
				call := w.begin(t, c, prefix(t)+name)
				lose.Store(&loss{ofWrites: true, lose: f})
				err := call(t.Context())
				lose.Store(nil)
				requireHonest(t, err, name)
				if errors.Is(err, etcd.ErrServer) {
					require.True(t, etcd.MaybeApplied(err), name)
					unknown++
				}
			}
		}
	}
	require.Greater(t, unknown, 50, "answers that were incomplete")
}

func TestIncompleteAnswerLeavesNoClaimBehind(t *testing.T) {
	t.Parallel()
	srv, lose := lossyServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	other := client(t, config(srv).WithTimeout(busyTimeout))
	for what, f := range losses {
		name := prefix(t) + what
		lock, err := c.NewLock(name, etcd.WithLockTTL(time.Hour))
		require.NoError(t, err)
		for _, take := range []func() (bool, error){
			func() (bool, error) { err := lock.Lock(t.Context()); return err == nil, err },
			func() (bool, error) { return lock.TryLock(t.Context()) },
		} {
			lose.Store(&loss{lose: f})
			held, err := take()
			if held {
				_ = lock.Unlock(t.Context())
			}
			lose.Store(nil)
			requireHonest(t, err, what)
			require.NoError(t, other.WithLock(t.Context(), name, func(context.Context) error { return nil }), what)
		}
		require.NoError(t, lock.Close())
	}
}

// headless is a stream whose events lose their keys.
type headless struct{ grpc.ServerStream }

func (s headless) SendMsg(m any) error {
	if resp, ok := m.(*pb.WatchResponse); ok {
		for _, ev := range resp.Events {
			ev.Kv = nil
		}
	}
	return s.ServerStream.SendMsg(m)
}

func TestEventWithoutAKeyEndsTheWatch(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithGRPCServerOptions(grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, headless{ss})
		})))
	c := client(t, config(srv).WithTimeout(busyTimeout))
	watch := c.Watch(t.Context(), "k")
	require.NoError(t, c.Put(t.Context(), "k", nil))
	require.ErrorIs(t, lastOf(watch), etcd.ErrServer)
}
