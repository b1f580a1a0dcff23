package integration

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestWatchOverARestoreEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	srv := server(t, etcdtest.WithDir(dir))
	c := client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	require.NoError(t, c.Put(ctx, p+"k", []byte("before the backup")))
	backup := copied(t, srv, dir)
	quiet, told := c.Watch(ctx, p+"quiet"), c.WatchPrefix(ctx, p)
	for i := range 20 {
		require.NoError(t, c.Put(ctx, p+"k", []byte(strconv.Itoa(i))))
	}
	require.Len(t, events(t, told, 20), 20)
	late := c.Watch(ctx, p+"quiet") // it has seen nothing but its beginning

	putBack(t, srv, dir, backup)
	require.ErrorIs(t, lastError(t, told), etcd.ErrRevisionRegressed)
	require.ErrorIs(t, lastError(t, late), etcd.ErrRevisionRegressed)
	// This one has not seen what was lost, unless it was told of progress; then it goes
	// on where it is right.
	require.NoError(t, c.Put(ctx, p+"quiet", []byte("v")))
	if r := next(t, quiet); r.Err() != nil {
		require.ErrorIs(t, r.Err(), etcd.ErrRevisionRegressed)
	} else {
		require.Equal(t, "v", string(r.Events[0].Kv.Value))
	}
}

func TestWatchOnAnotherClusterEnds(t *testing.T) {
	t.Parallel()
	before, err := etcdtest.Start()
	require.NoError(t, err)
	addr := before.Endpoint()
	c := client(t, etcd.DefaultConfig().WithEndpoints(addr))
	p, ctx := prefix(t), within(t, patience)
	for i := range 5 {
		require.NoError(t, c.Put(ctx, p+"other", []byte(strconv.Itoa(i))))
	}
	w := c.Watch(ctx, p+"k")
	require.NoError(t, before.Close())
	server(t, etcdtest.WithListenAddr(addr))
	require.ErrorIs(t, lastError(t, w), etcd.ErrRevisionRegressed)
}

func TestMemberThatLagsEndsNoWatch(t *testing.T) {
	t.Parallel()
	var lag atomic.Bool
	srv := server(t, tapped(nil, nil, func(s grpc.ServerStream, r *pb.WatchResponse) error {
		if r.Created && lag.Load() {
			r.Header.Revision = 1
		}
		return s.SendMsg(r)
	}))
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c, direct := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint())), client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	w := c.Watch(ctx, p+"k")
	for i := range 5 {
		require.NoError(t, direct.Put(ctx, p+"k", []byte(strconv.Itoa(i))))
	}
	require.Len(t, events(t, w, 5), 5)
	lag.Store(true)
	proxy.Cut()
	require.NoError(t, direct.Put(ctx, p+"k", []byte("news")))
	require.Equal(t, "news", string(events(t, w, 1)[0].Kv.Value))
}

func TestQuietWatchesOutliveCompactions(t *testing.T) {
	t.Parallel()
	var progress progress
	srv, o := observedServer(t, progress.option())
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c, direct := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint())), client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	var versions atomic.Int64
	o.around(nil, func(req any) {
		if _, ok := req.(*pb.StatusRequest); ok {
			versions.Add(1)
		}
	})
	now := c.WatchPrefix(ctx, p+"quiet/")
	require.NoError(t, direct.Put(ctx, p+"quiet/k", []byte("first")))
	require.Equal(t, "first", string(events(t, now, 1)[0].Kv.Value))
	for range 10 {
		require.NoError(t, direct.Put(ctx, p+"busy", nil))
	}
	past := c.WatchPrefix(ctx, p+"quiet/", etcd.WithRevision(3))
	trusted := progressInOrder(t, srv)
	if trusted {
		asked := progress.asked.Load()
		// The second request from here on was sent with both registered.
		require.Eventually(t, func() bool { return progress.answered.Load() == 12 && progress.asked.Load() >= asked+2 }, patience, patience/10000)
	} else {
		require.Eventually(t, func() bool { return versions.Load() > 0 }, patience, patience/10000)
		require.Never(t, func() bool { return progress.asked.Load() > 0 }, 3*time.Second, 10*time.Millisecond, "progress may come before its events")
	}
	proxy.Refuse()
	proxy.Cut()
	compactAll(t, direct)
	require.NoError(t, direct.Put(ctx, p+"quiet/k", []byte("news")))
	proxy.Heal()
	for _, w := range []etcd.WatchChan{now, past} {
		if trusted {
			require.Equal(t, "news", string(events(t, w, 1)[0].Kv.Value))
		} else {
			require.ErrorIs(t, lastError(t, w), etcd.ErrCompacted)
		}
	}
}

func TestUnchangedKeyIsWatchedBehindACompaction(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	for _, key := range []string{"kept", "changed", "gone"} {
		require.NoError(t, c.Put(ctx, p+key, []byte("1"))) // 2, 3, 4
	}
	require.NoError(t, c.Put(ctx, p+"changed", []byte("2"))) // 5
	_, err := c.Delete(ctx, p+"gone")
	require.NoError(t, err)
	for range 5 {
		require.NoError(t, c.Put(ctx, p+"busy", nil))
	}
	compactAll(t, c)
	kept := c.Watch(ctx, p+"kept", etcd.WithRevision(3))
	require.ErrorIs(t, lastError(t, c.Watch(ctx, p+"kept", etcd.WithRevision(2))), etcd.ErrCompacted)
	require.ErrorIs(t, lastError(t, c.Watch(ctx, p+"changed", etcd.WithRevision(4))), etcd.ErrCompacted)
	require.ErrorIs(t, lastError(t, c.Watch(ctx, p+"gone", etcd.WithRevision(5))), etcd.ErrCompacted)
	require.ErrorIs(t, lastError(t, c.WatchPrefix(ctx, p+"kept", etcd.WithRevision(3))), etcd.ErrCompacted)
	require.NoError(t, c.Put(ctx, p+"kept", []byte("news")))
	require.Equal(t, "news", string(events(t, kept, 1)[0].Kv.Value))
}
