package integration

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/blueprint-go/etcd/etcdtest"
)

// script is what a server does to the requests made with one context.
type script struct {
	// answer takes the place of the server's own, for the first times requests;
	// 0 means all.
	answer error
	times  int64
	// refuse keeps the server from carrying out what it answers so.
	refuse bool
	// writesOnly leaves requests alone that change nothing.
	writesOnly bool
	// arrived is called before a request is carried out, if it is not nil; ctx is
	// that of the request.
	arrived func(ctx context.Context)

	seen     atomic.Int64 // requests that the script is about
	executed atomic.Int64 // those that the server carried out with success
}

// faults stands in a server and has it follow scripts.
type faults struct {
	mu      sync.Mutex
	scripts []*script

	authentications atomic.Int64 // requests for a token
}

// faultyServer returns a server that follows the scripts of the faults.
func faultyServer(t testing.TB, opts ...etcdtest.Option) (*etcdtest.Server, *faults) {
	t.Helper()
	f := &faults{}
	return server(t, append(opts, etcdtest.WithGRPCServerOptions(grpc.ChainUnaryInterceptor(f.intercept)))...), f
}

// scriptHeader holds the number of a request's script. Requests are told apart by
// a header because not all of them have a key.
const scriptHeader = "script"

// follow returns a context for the requests that s is about.
func (f *faults) follow(ctx context.Context, s *script) context.Context {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scripts = append(f.scripts, s)
	return metadata.AppendToOutgoingContext(ctx, scriptHeader, strconv.Itoa(len(f.scripts)-1))
}

func (f *faults) scriptOf(ctx context.Context) *script {
	number := metadata.ValueFromIncomingContext(ctx, scriptHeader)
	if len(number) == 0 {
		return nil
	}
	i, err := strconv.Atoi(number[0])
	if err != nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.scripts[i]
}

func (f *faults) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if _, ok := req.(*pb.AuthenticateRequest); ok {
		f.authentications.Add(1)
		return handler(ctx, req) // it goes with the context of the request that needs it
	}
	s := f.scriptOf(ctx)
	if s == nil || s.writesOnly && !writes(req) {
		return handler(ctx, req)
	}
	n := s.seen.Add(1)
	if s.arrived != nil {
		s.arrived(ctx)
	}
	scripted := s.answer != nil && (s.times == 0 || n <= s.times)
	if scripted && s.refuse {
		return nil, s.answer
	}
	resp, err := handler(ctx, req)
	if err == nil {
		s.executed.Add(1)
	}
	if scripted {
		return nil, s.answer
	}
	return resp, err
}

// writes reports whether a request changes anything. The revocation of a lease,
// by which a lock cleans up, is not counted.
func writes(req any) bool {
	switch r := req.(type) {
	case *pb.PutRequest, *pb.DeleteRangeRequest, *pb.LeaseGrantRequest:
		return true
	case *pb.TxnRequest:
		return anyWrites(r.Success) || anyWrites(r.Failure)
	}
	return false
}

func anyWrites(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		if op.GetRequestPut() != nil || op.GetRequestDeleteRange() != nil {
			return true
		}
		if txn := op.GetRequestTxn(); txn != nil && writes(txn) {
			return true
		}
	}
	return false
}
