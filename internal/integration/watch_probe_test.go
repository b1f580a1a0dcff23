package integration

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// muting swallows what a server says on the watch streams that were there when it began.
type muting struct {
	mu     sync.Mutex
	muted  map[grpc.ServerStream]bool
	spoken map[grpc.ServerStream]bool
}

func (m *muting) option() etcdtest.Option {
	m.muted, m.spoken = map[grpc.ServerStream]bool{}, map[grpc.ServerStream]bool{}
	return tapped(nil, nil, func(s grpc.ServerStream, r *pb.WatchResponse) error {
		m.mu.Lock()
		muted := m.muted[s]
		m.spoken[s] = true
		m.mu.Unlock()
		if muted {
			return nil
		}
		return s.SendMsg(r)
	})
}

func (m *muting) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.spoken {
		m.muted[s] = true
	}
}

func TestWatchLeavesAStreamThatWentSilent(t *testing.T) {
	t.Parallel()
	var mute muting
	srv := server(t, mute.option())
	c := client(t, config(srv).WithTimeout(2*time.Second))
	p, ctx := prefix(t), within(t, patience)
	w := c.WatchPrefix(ctx, p, etcd.WithWatchStatus())
	require.Equal(t, etcd.WatchRegistered, next(t, w).State)
	mute.begin()
	require.NoError(t, c.Put(ctx, p+"k", []byte("while it was silent")))
	interrupted := next(t, w)
	require.Equal(t, etcd.WatchInterrupted, interrupted.State)
	require.ErrorIs(t, interrupted.Cause, etcd.ErrUnavailable)
	require.ErrorContains(t, interrupted.Cause, "no answer")
	require.Equal(t, etcd.WatchResumed, next(t, w).State)
	require.Equal(t, "while it was silent", string(events(t, w, 1)[0].Kv.Value))
}

// Nothing but the answers to probes comes on the streams of this server.
func TestQuietWatchKeepsItsStream(t *testing.T) {
	t.Parallel()
	var probes atomic.Int64
	srv := server(t, tapped(nil, func(r *pb.WatchRequest) {
		if create := r.GetCreateRequest(); create != nil && len(create.Filters) == 2 {
			probes.Add(1)
		}
	}, func(s grpc.ServerStream, r *pb.WatchResponse) error {
		if len(r.Events) == 0 && !r.Created && !r.Canceled {
			return nil // progress
		}
		return s.SendMsg(r)
	}))
	c := client(t, config(srv).WithTimeout(5*time.Second))
	p, ctx := prefix(t), within(t, patience)
	w := c.WatchPrefix(ctx, p, etcd.WithWatchStatus())
	require.Equal(t, etcd.WatchRegistered, next(t, w).State)
	require.Eventually(t, func() bool { return probes.Load() >= 3 }, patience, time.Millisecond)
	require.NoError(t, c.Put(ctx, p+"k", []byte("event")))
	r := next(t, w)
	require.Equal(t, etcd.WatchEvents, r.State, "no interruption before it: %v", r.Cause)
	require.Equal(t, "event", string(r.Events[0].Kv.Value))
}
