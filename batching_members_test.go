package etcd_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/internal/memserver"
)

// batchMember is one of several ways to one server, which counts what comes by it.
type batchMember struct {
	requests atomic.Int64
	silent   atomic.Bool
}

// stub passes requests on to srv, each after a millisecond.
func (m *batchMember) stub(srv *memserver.Server) *stub {
	return &stub{put: passing(m, srv.Put), get: passing(m, srv.Range), txn: passing(m, srv.Txn)}
}

// passing returns call as a member answers it.
func passing[In, Out any](m *batchMember, call func(context.Context, In) (*Out, error)) func(context.Context, In) (*Out, error) {
	return func(ctx context.Context, in In) (*Out, error) {
		m.requests.Add(1)
		takes := time.Millisecond
		if m.silent.Load() {
			takes = time.Hour
		}
		select {
		case <-time.After(takes):
			return call(ctx, in)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// batchingOver returns a client with batching that is connected to all members, which are
// ways to one server.
func batchingOver(t *testing.T, members ...*batchMember) *etcd.Client {
	t.Helper()
	srv := memserver.New()
	var servers []*stub
	for _, m := range members {
		servers = append(servers, m.stub(srv))
	}
	c, err := etcd.NewClient(inMemory(t, servers...).WithBatching())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	for range 10 {
		require.NoError(t, c.Put(t.Context(), "key", nil))
	}
	return c
}

// besideASilentMember returns a client of two members, one of which answers nothing any more.
func besideASilentMember(t *testing.T) *etcd.Client {
	t.Helper()
	silent := &batchMember{}
	c := batchingOver(t, silent, &batchMember{})
	silent.silent.Store(true)
	return c
}

func TestBatchesAreSpreadOverMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		members := []*batchMember{{}, {}, {}}
		c := batchingOver(t, members...)
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
		c := besideASilentMember(t)
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
		c := besideASilentMember(t)
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
		c := besideASilentMember(t)
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
