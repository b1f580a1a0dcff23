package etcd_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// slowMember answers reads after a time, or with an error at once.
type slowMember struct {
	takes time.Duration
	fails error

	begun, ended atomic.Int64
}

func (m *slowMember) stub() *stub {
	return &stub{get: func(ctx context.Context, _ *pb.RangeRequest) (*pb.RangeResponse, error) {
		m.begun.Add(1)
		if m.fails != nil {
			return nil, m.fails
		}
		select {
		case <-time.After(m.takes):
			m.ended.Add(1)
			return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 1}, Count: 1}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
}

// clientOf returns a client whose endpoints are members.
func clientOf(t *testing.T, members ...*slowMember) *etcd.Client {
	t.Helper()
	var servers []*stub
	for _, m := range members {
		servers = append(servers, m.stub())
	}
	c, err := etcd.NewClient(inMemory(t, servers...))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func TestReadThatNeedsMostOfItsTimeSucceeds(t *testing.T) {
	t.Parallel()
	for _, takes := range []time.Duration{2 * time.Second, 3 * time.Second, 4900 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			a, b := &slowMember{takes: takes}, &slowMember{takes: takes}
			c := clientOf(t, a, b)
			for range 4 {
				before := a.begun.Load() + b.begun.Load()
				began := time.Now()
				exists, err := c.Exists(t.Context(), "key")
				require.NoError(t, err)
				require.True(t, exists)
				require.Equal(t, takes, time.Since(began))
				executed := a.begun.Load() + b.begun.Load() - before
				require.LessOrEqual(t, executed, int64(2), "once by each")
				if takes < etcd.DefaultRequestTimeout/2 {
					require.Equal(t, int64(1), executed)
				}
			}
		})
	}
}

func TestReadLeavesASilentMemberInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		silent, other := &slowMember{takes: time.Hour}, &slowMember{takes: time.Second}
		c := clientOf(t, silent, other)
		for range 4 {
			began := time.Now()
			_, err := c.Exists(t.Context(), "key")
			require.NoError(t, err)
			require.LessOrEqual(t, time.Since(began), 3500*time.Millisecond)
		}
		require.Positive(t, silent.begun.Load())
	})
}

// Two of three swallow requests, and one of those left fails for a while.
func TestHedgedReadIsTriedAgainToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		silent := []*slowMember{{takes: time.Hour}, {takes: time.Hour}}
		good := &slowMember{takes: time.Millisecond}
		c := clientOf(t, silent[0], silent[1], good)
		for range 6 {
			_, err := c.Exists(t.Context(), "key")
			require.NoError(t, err)
		}
		require.Positive(t, silent[0].begun.Load()+silent[1].begun.Load())
	})
}

func TestRefusalOfEitherReadCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refusing := &slowMember{fails: status.Error(codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted")}
		silent := &slowMember{takes: time.Hour}
		c := clientOf(t, silent, refusing)
		for range 4 {
			began := time.Now()
			_, err := c.Exists(t.Context(), "key")
			require.ErrorIs(t, err, etcd.ErrCompacted)
			require.LessOrEqual(t, time.Since(began), 2600*time.Millisecond)
		}
		silentOnly := clientOf(t, &slowMember{takes: time.Hour}, &slowMember{takes: time.Hour})
		began := time.Now()
		_, err := silentOnly.Exists(t.Context(), "key")
		require.ErrorIs(t, err, etcd.ErrTimeout)
		require.Equal(t, etcd.DefaultRequestTimeout, time.Since(began))
	})
}
