package integration

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// Two processes drift apart: an older ring is put back, and one that knows no newer one
// changes it. The other has a key with values that is not its primary.
func TestTakenRingMakesNoProcessForgetAKey(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx := t.Context()
	p := created(t, srv)
	old, first := storedBytes(t, p.client, ringKey), p.primary(t)
	added := p.rotated(t)
	c := p.values(t)
	require.NoError(t, c.Put(ctx, "/k", []byte("under the added key")))
	require.NoError(t, p.Promote(ctx, first))
	plant(t, p.client, ringKey, old)
	other := overtaken(t, srv, p)
	requireValue(t, c, "/k", "under the added key")
	require.ErrorIs(t, p.Err(), etcd.ErrKeyringReplaced)
	require.ErrorContains(t, p.Err(), added.String())

	// It stays through further changes, those that this process makes too.
	other.rotated(t)
	require.Eventually(t, func() bool { return p.primary(t) == other.primary(t) }, patience, time.Millisecond)
	p.rotated(t)
	requireValue(t, c, "/k", "under the added key")
	require.ErrorIs(t, p.Err(), etcd.ErrKeyringReplaced)
	_, err := other.values(t).Get(ctx, "/k")
	require.ErrorIs(t, err, etcd.ErrUnknownKey)

	require.NoError(t, p.Restore(ctx))
	require.NoError(t, p.Err())
	// It has just looked for the key, and hears of the ring by its watch.
	require.Eventually(t, func() bool { return other.Info().Generation == p.Info().Generation }, patience, time.Millisecond)
	requireValue(t, other.values(t), "/k", "under the added key")
	generation := p.Info().Generation
	require.NoError(t, p.Restore(ctx), "there is nothing to restore")
	require.Equal(t, generation, p.Info().Generation)
}

func TestAdoptSettlesForARingThatLacksKeys(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx := t.Context()
	p := created(t, srv)
	old, first := storedBytes(t, p.client, ringKey), p.primary(t)
	added := p.rotated(t)
	require.NoError(t, p.values(t).Put(ctx, "/k", []byte("under the added key")))
	require.NoError(t, p.Promote(ctx, first))
	plant(t, p.client, ringKey, old)
	other := overtaken(t, srv, p)
	require.ErrorIs(t, p.Err(), etcd.ErrKeyringReplaced)
	// The process that has the key can bring its values under the ring.
	require.NoError(t, second(p.values(t).Reencrypt(ctx, "/k")))
	requireValue(t, other.values(t), "/k", "under the added key")
	require.NoError(t, p.Adopt(ctx))
	require.NoError(t, p.Err())
	require.Contains(t, p.Keyring().IDs(), added)
	require.Equal(t, other.Info(), p.Info())
	p.rotated(t)
	require.NoError(t, p.Err())
	require.Contains(t, p.Keyring().IDs(), added)
}

// The changes wait for the outer key to open one before.
func TestDeletedKeyIsNoLostOne(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx := t.Context()
	p, follower := created(t, srv), newProcess(t, srv.Endpoint())
	outer := &hung{testAEAD: follower.outer, free: make(chan struct{})}
	var err error
	follower.StoredKeyring, err = etcd.OpenKeyring(ctx, follower.client, ringKey, outer)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, follower.Close()) })
	outer.hangs.Store(true)
	first := p.primary(t)
	p.rotated(t)
	require.NoError(t, p.RetireKey(ctx, first, etcd.WithRetireAge(0), etcd.WithoutProof()))
	require.NoError(t, p.DeleteKey(ctx, first, etcd.WithRetireAge(0), etcd.WithoutProof()))
	outer.hangs.Store(false)
	close(outer.free)
	follower.comes(t, p.Keyring().String())
	require.NoError(t, follower.Err())
}

// gatheringServer returns a server that sends the events of a watch by so many at once as
// size says.
func gatheringServer(t *testing.T) (srv *etcdtest.Server, size *atomic.Int64) {
	t.Helper()
	size = &atomic.Int64{}
	return server(t, etcdtest.WithGRPCServerOptions(
		grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(server, &gatheringStream{ServerStream: stream, size: size, kept: map[int64][]*mvccpb.Event{}})
		}),
	)), size
}

type gatheringStream struct {
	grpc.ServerStream
	size *atomic.Int64

	mu   sync.Mutex
	kept map[int64][]*mvccpb.Event // by watch
}

func (s *gatheringStream) SendMsg(m any) error {
	if resp, ok := m.(*pb.WatchResponse); ok && len(resp.Events) > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		resp.Events = append(s.kept[resp.WatchId], resp.Events...)
		if int64(len(resp.Events)) < s.size.Load() {
			s.kept[resp.WatchId] = resp.Events
			return nil
		}
		delete(s.kept, resp.WatchId)
	}
	return s.ServerStream.SendMsg(m)
}

// One response of the watch holds the retirement and the deletion.
func TestKeyThatOneResponseDeletesIsNotLost(t *testing.T) {
	t.Parallel()
	srv, size := gatheringServer(t)
	ctx := t.Context()
	p, follower := created(t, srv), newProcess(t, srv.Endpoint())
	// It doesn't read the ring in between: not in time, and not since its watch was silent on a
	// busy machine and began anew.
	follower.client = client(t, etcd.DefaultConfig().WithEndpoints(srv.Endpoint()).WithTimeout(patience))
	var err error
	follower.StoredKeyring, err = etcd.OpenKeyring(ctx, follower.client, ringKey, follower.outer, etcd.WithKeyringFreshness(24*time.Hour))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, follower.Close()) })
	first := p.primary(t)
	p.rotated(t)
	follower.comes(t, p.Keyring().String())
	size.Store(2)
	require.NoError(t, p.RetireKey(ctx, first, etcd.WithRetireAge(0), etcd.WithoutProof()))
	require.NoError(t, p.DeleteKey(ctx, first, etcd.WithRetireAge(0), etcd.WithoutProof()))
	require.Eventually(t, func() bool { return follower.Info().Generation == p.Info().Generation }, patience, time.Millisecond)
	require.NoError(t, follower.Err())
}
