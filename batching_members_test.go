package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/blueprint-go/etcd"
)

// batchMember is one of several ways to one server, which counts what comes by it.
type batchMember struct {
	requests atomic.Int64
	silent   atomic.Bool
}

// batchingOver returns a client with batching of one server with several endpoints. A request
// takes a millisecond.
func batchingOver(t *testing.T, members ...*batchMember) *etcd.Client {
	t.Helper()
	srv := exampleServer()
	listeners, endpoints := map[string]*bufconn.Listener{}, []string{}
	for i, m := range members {
		pass := func(ctx context.Context) error {
			m.requests.Add(1)
			takes := time.Millisecond
			if m.silent.Load() {
				takes = time.Hour
			}
			select {
			case <-time.After(takes):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		at := fmt.Sprintf("127.0.0.1:%d", i+1)
		l := bufconn.Listen(1 << 20)
		listeners[at], endpoints = l, append(endpoints, at)
		s := grpc.NewServer()
		pb.RegisterKVServer(s, &stub{
			put: func(ctx context.Context, req *pb.PutRequest) (*pb.PutResponse, error) {
				if err := pass(ctx); err != nil {
					return nil, err
				}
				return srv.Put(ctx, req)
			},
			get: func(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
				if err := pass(ctx); err != nil {
					return nil, err
				}
				return srv.Range(ctx, req)
			},
			txn: func(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
				if err := pass(ctx); err != nil {
					return nil, err
				}
				return srv.Txn(ctx, req)
			},
		})
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		t.Cleanup(func() {
			s.Stop()
			if err := <-served; !errors.Is(err, grpc.ErrServerStopped) {
				require.NoError(t, err)
			}
		})
	}
	c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(endpoints...).WithLazyConnect().WithBatching().
		WithDialer(func(ctx context.Context, _, addr string) (net.Conn, error) { return listeners[addr].DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func TestBatchesAreSpreadOverMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		members := []*batchMember{{}, {}, {}}
		c := batchingOver(t, members...)
		for range 10 { // until all are connected to
			require.NoError(t, c.Put(t.Context(), "key", nil))
		}
		for _, m := range members {
			m.requests.Store(0)
		}
		var callers sync.WaitGroup
		for i := range 32 {
			callers.Go(func() {
				for range 50 {
					require.NoError(t, c.Put(t.Context(), fmt.Sprint(i), nil))
					_, err := c.Get(t.Context(), fmt.Sprint(i))
					require.NoError(t, err)
				}
			})
		}
		callers.Wait()
		all := members[0].requests.Load() + members[1].requests.Load() + members[2].requests.Load()
		for _, m := range members {
			require.InEpsilon(t, float64(all)/3, m.requests.Load(), 0.2)
		}
		require.Less(t, all, int64(32*50*2/2), "they traveled together")
	})
}

func TestBatchOfReadsLeavesASilentMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent, other := &batchMember{}, &batchMember{}
		c := batchingOver(t, silent, other)
		for range 10 {
			require.NoError(t, c.Put(t.Context(), "key", nil))
		}
		silent.silent.Store(true)
		var callers sync.WaitGroup
		began := time.Now()
		for range 32 {
			callers.Go(func() {
				_, err := c.Get(t.Context(), "key")
				require.NoError(t, err)
			})
		}
		callers.Wait()
		require.LessOrEqual(t, time.Since(began), etcd.DefaultRequestTimeout/2+time.Second)
	})
}

// One who has a minute must not keep the others from being asked elsewhere in their time.
func TestReadsLeaveSilentMembersWithinTheirDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent, other := &batchMember{}, &batchMember{}
		c := batchingOver(t, silent, other)
		for range 10 {
			require.NoError(t, c.Put(t.Context(), "key", nil))
		}
		silent.silent.Store(true)
		var callers sync.WaitGroup
		for i := range 32 {
			callers.Go(func() {
				left := 2 * time.Second
				if i%8 == 0 {
					left = time.Minute
				}
				ctx, cancel := context.WithTimeout(t.Context(), left)
				defer cancel()
				_, err := c.Get(ctx, "key")
				require.NoError(t, err)
			})
		}
		callers.Wait()
	})
}

// A write is sent once, so that those on their way to a silent member are lost, and no others.
func TestSilentMemberHoldsUpNoFurtherWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent, other := &batchMember{}, &batchMember{}
		c := batchingOver(t, silent, other)
		for range 10 {
			require.NoError(t, c.Put(t.Context(), "key", nil))
		}
		silent.silent.Store(true)
		var callers sync.WaitGroup
		var done, lost atomic.Int64
		for i := range 8 {
			callers.Go(func() {
				for range 20 {
					if err := c.Put(t.Context(), fmt.Sprint(i), nil); err != nil {
						require.ErrorIs(t, err, etcd.ErrTimeout)
						require.True(t, etcd.MaybeApplied(err))
						lost.Add(1)
						return
					}
					done.Add(1)
				}
			})
		}
		began := time.Now()
		callers.Wait()
		require.Positive(t, lost.Load())
		require.LessOrEqual(t, time.Since(began), etcd.DefaultRequestTimeout+time.Second, "all at once")
	})
}
