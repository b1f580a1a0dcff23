package integration

import (
	"context"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// observer stands in a server and sees the requests that reach it.
type observer struct {
	mu     sync.Mutex
	seen   []string
	before func(req any)
	after  func(req any)
}

// observedServer returns a server and what observes it.
func observedServer(t testing.TB, opts ...etcdtest.Option) (*etcdtest.Server, *observer) {
	t.Helper()
	o := &observer{}
	return server(t, append(opts, etcdtest.WithGRPCServerOptions(
		grpc.ChainUnaryInterceptor(o.unary), grpc.ChainStreamInterceptor(o.stream)))...), o
}

// during returns the methods of the requests that reach the server while f runs.
func (o *observer) during(f func()) []string {
	o.mu.Lock()
	o.seen = []string{}
	o.mu.Unlock()
	f()
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.seen) // requests go on coming
}

// around has before and after called before and after a request is handled; nil
// means nothing. Their own requests are observed too.
func (o *observer) around(before, after func(req any)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.before, o.after = before, after
}

func (o *observer) see(method string) (before, after func(req any)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = append(o.seen, path.Base(method))
	return o.before, o.after
}

func (o *observer) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	before, after := o.see(info.FullMethod)
	if before != nil {
		before(req)
	}
	resp, err := handler(ctx, req)
	if after != nil {
		after(req)
	}
	return resp, err
}

func (o *observer) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	before, _ := o.see(info.FullMethod)
	return handler(srv, &observedStream{ss, before})
}

// observedStream has before called with each request of a stream.
type observedStream struct {
	grpc.ServerStream
	before func(req any)
}

func (s *observedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil && s.before != nil {
		s.before(m)
	}
	return err
}

// conditional reports whether a request is a transaction with conditions: the
// second half of an optimistic write.
func conditional(req any) bool {
	txn, ok := req.(*pb.TxnRequest)
	return ok && len(txn.Compare) > 0
}

// writesTo reports whether a request is a transaction that may put a key, at any
// level.
func writesTo(req any, key string) bool {
	txn, ok := req.(*pb.TxnRequest)
	return ok && slices.ContainsFunc(slices.Concat(txn.Success, txn.Failure), func(op *pb.RequestOp) bool {
		put := op.GetRequestPut()
		return put != nil && strings.HasSuffix(string(put.Key), key) || op.GetRequestTxn() != nil && writesTo(op.GetRequestTxn(), key)
	})
}

// asks reports whether a request is a transaction about keys under a prefix, at any level.
func asks(req any, under string) bool {
	txn, ok := req.(*pb.TxnRequest)
	return ok && slices.ContainsFunc(slices.Concat(txn.Success, txn.Failure), func(op *pb.RequestOp) bool {
		if nested := op.GetRequestTxn(); nested != nil {
			return asks(nested, under)
		}
		for _, key := range [][]byte{op.GetRequestPut().GetKey(), op.GetRequestRange().GetKey(), op.GetRequestDeleteRange().GetKey()} {
			if strings.HasPrefix(string(key), under) {
				return true
			}
		}
		return false
	})
}

// testKey is the encryption key of the tests.
var testKey = []byte("32-byte-encryption-key-here!!!")

// mode is a way to store values, or to send them.
type mode struct {
	name string
	set  func(*etcd.Config) *etcd.Config
}

// modes are the ways in which values can be stored.
var modes = []mode{
	{"plain", func(c *etcd.Config) *etcd.Config { return c }},
	{"compressed", func(c *etcd.Config) *etcd.Config { return c.WithCompression(1024) }},
	{"encrypted", func(c *etcd.Config) *etcd.Config { return c.WithEncryption(testKey) }},
	{"all", func(c *etcd.Config) *etcd.Config {
		return c.WithEncryption(testKey).WithCompression(1024).WithNamespace("space/")
	}},
}

// busyTimeout is a timeout of requests for tests that hold a busy machine.
const busyTimeout = time.Minute

// inEachMode runs a test for each way to store values, each with its own client
// on a server of its own.
func inEachMode(t *testing.T, test func(t *testing.T, c *etcd.Client, o *observer)) {
	t.Helper()
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			srv, o := observedServer(t)
			test(t, client(t, m.set(config(srv)).WithTimeout(busyTimeout)), o)
		})
	}
}
