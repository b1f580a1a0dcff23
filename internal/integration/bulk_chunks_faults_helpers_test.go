package integration

import (
	"context"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd/etcdtest"
)

// chunkServer stands in a server and interferes with the transactions that hold
// certain keys.
type chunkServer struct {
	mu      sync.Mutex
	before  func(ctx context.Context, keys []string) error
	after   func(keys []string) error
	now     int // transactions under way
	most    int
	applied [][]string
}

// serverOfChunks returns a server and what interferes with its transactions.
func serverOfChunks(t testing.TB, opts ...etcdtest.Option) (*etcdtest.Server, *chunkServer) {
	t.Helper()
	s := &chunkServer{}
	return server(t, append(opts, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(s.intercept)))...), s
}

// interfere has before and after called with the keys of each transaction that is
// handled; an error of either is the answer, nil means nothing.
func (s *chunkServer) interfere(before func(ctx context.Context, keys []string) error, after func(keys []string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
	s.most, s.applied = 0, nil
}

// seen returns the keys of each transaction that was applied, and how many were
// under way at a time.
func (s *chunkServer) seen() (applied [][]string, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied, s.most
}

// count adds to the transactions under way.
func (s *chunkServer) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now += n
	s.most = max(s.most, s.now)
}

func (s *chunkServer) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	txn, ok := req.(*pb.TxnRequest)
	if !ok {
		return handler(ctx, req)
	}
	s.count(1)
	defer s.count(-1)
	s.mu.Lock()
	before, after := s.before, s.after
	s.mu.Unlock()
	keys := keysOfOps(nil, txn.Success)
	if before != nil {
		if err := before(ctx, keys); err != nil {
			return nil, err
		}
	}
	resp, err := handler(ctx, req)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.applied = append(s.applied, keys)
	s.mu.Unlock()
	if after != nil {
		err = after(keys)
	}
	return resp, err
}

// keysOfOps appends the keys of operations, nested ones too.
func keysOfOps(keys []string, ops []*pb.RequestOp) []string {
	for _, op := range ops {
		switch r := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			keys = append(keys, string(r.RequestPut.Key))
		case *pb.RequestOp_RequestRange:
			keys = append(keys, string(r.RequestRange.Key))
		case *pb.RequestOp_RequestDeleteRange:
			keys = append(keys, string(r.RequestDeleteRange.Key))
		case *pb.RequestOp_RequestTxn:
			keys = keysOfOps(keys, r.RequestTxn.Success)
		}
	}
	return keys
}
