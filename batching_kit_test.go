package etcd_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/internal/memserver"
)

// held is the key whose first request of each kind the server of a meeting holds up.
const held = "held"

// meeting is a server in memory that holds requests up, and a client with batching: what is
// called meanwhile meets. It is for synctest bubbles.
type meeting struct {
	t      *testing.T
	srv    *memserver.Server
	client *etcd.Client
	sizes  *sizes

	release chan struct{}
	mu      sync.Mutex
	txns    []*pb.TxnRequest
	// answer, if it is not nil, answers a transaction in the place of the server.
	answer func(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error)
}

func newMeeting(t *testing.T, change ...func(*etcd.Config)) *meeting {
	m := &meeting{t: t, srv: memserver.New(), sizes: &sizes{}, release: make(chan struct{})}
	wait := func(key []byte) {
		if string(key) == held {
			<-m.release
		}
	}
	batched := func(cfg *etcd.Config) { cfg.WithBatching(etcd.WithBatchInFlight(1)).WithHooks(m.sizes) }
	m.client = stubClient(t, &stub{
		put: func(ctx context.Context, req *pb.PutRequest) (*pb.PutResponse, error) {
			wait(req.Key)
			return m.srv.Put(ctx, req)
		},
		get: func(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
			wait(req.Key)
			return m.srv.Range(ctx, req)
		},
		remove: func(ctx context.Context, req *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
			wait(req.Key)
			return m.srv.DeleteRange(ctx, req)
		},
		txn: m.txn,
	}, append([]func(*etcd.Config){batched}, change...)...)
	return m
}

func (m *meeting) txn(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	m.mu.Lock()
	m.txns = append(m.txns, req)
	answer := m.answer
	m.mu.Unlock()
	if answer != nil {
		return answer(ctx, req)
	}
	return m.srv.Txn(ctx, req)
}

// batches returns how many operations each transaction had.
func (m *meeting) batches() (out []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, txn := range m.txns {
		out = append(out, len(txn.Success))
	}
	return out
}

// meet runs calls one after the other, each until it waits, while requests of all kinds are
// held up. Then it releases those, and waits for all.
func (m *meeting) meet(calls ...func()) {
	m.gather(calls...)()
}

// gather is meet up to the release, which the function that it returns does.
func (m *meeting) gather(calls ...func()) func() {
	var all sync.WaitGroup
	ctx := m.t.Context()
	for _, hold := range []func(){
		func() { _ = m.client.Put(ctx, held, nil) },
		func() { _, _ = m.client.Get(ctx, held) },
		func() { _, _ = m.client.Get(ctx, held, etcd.WithSerializable()) },
		func() { _, _ = m.client.Get(ctx, held, etcd.WithRevision(1)) },
		func() { _, _ = m.client.Delete(ctx, held) },
	} {
		all.Go(hold)
	}
	synctest.Wait()
	for _, call := range calls {
		all.Go(call)
		synctest.Wait()
	}
	return func() {
		close(m.release)
		all.Wait()
	}
}

// put stores a key-value before anything meets.
func (m *meeting) put(key, value string) {
	if _, err := m.srv.Put(m.t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)}); err != nil {
		m.t.Fatal(err)
	}
}

// stored returns the value of a key as stored, and whether there is one.
func (m *meeting) stored(key string) (string, bool) {
	resp, err := m.srv.Range(m.t.Context(), &pb.RangeRequest{Key: []byte(key)})
	if err != nil {
		m.t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return "", false
	}
	return string(resp.Kvs[0].Value), true
}

// requireStored holds that keys have values.
func (m *meeting) requireStored(want map[string]string) {
	m.t.Helper()
	for key, value := range want {
		got, _ := m.stored(key)
		require.Equal(m.t, value, got, key)
	}
}

// sizes is a hook that notes of each request how many travelled together.
type sizes struct {
	mu    sync.Mutex
	byKey map[string][]int
}

// BeforeRequest implements [etcd.Hook].
func (s *sizes) BeforeRequest(ctx context.Context, _ etcd.RequestInfo) context.Context { return ctx }

// AfterRequest implements [etcd.Hook].
func (s *sizes) AfterRequest(_ context.Context, req etcd.RequestInfo, res etcd.ResultInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey == nil {
		s.byKey = map[string][]int{}
	}
	s.byKey[req.Key] = append(s.byKey[req.Key], res.Batch)
}

func (s *sizes) of(key string) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.byKey[key])
}

// checkTxnOps refuses a transaction as a server with a limit of operations does
// (server/v3/etcdserver/api/v3rpc/key.go, checkTxnRequest).
func checkTxnOps(req *pb.TxnRequest, limit int) error {
	n := max(len(req.Compare), len(req.Success), len(req.Failure))
	if n > limit {
		return rpctypes.ErrGRPCTooManyOps
	}
	for _, ops := range [][]*pb.RequestOp{req.Success, req.Failure} {
		for _, op := range ops {
			if txn := op.GetRequestTxn(); txn != nil {
				if err := checkTxnOps(txn, limit-n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// waitPatience waits until calls go without what is held up.
func waitPatience() { <-time.After(time.Second) }
