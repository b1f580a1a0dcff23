package integration

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
	"github.com/blueprint-go/etcd/mirror"
)

// Both are registered again when their token is gone.
func TestWatchAndMirrorOutliveAnExpiredToken(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t, etcdtest.WithAuth("root"), etcdtest.WithAuthTokenTTL(time.Second))
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, config(srv).WithEndpoints(proxy.Endpoint()).WithAuth("root", "root"))
	p, ctx := prefix(t), within(t, patience)
	root := client(t, config(srv).WithAuth("root", "root"))
	w, m := c.WatchPrefix(ctx, p), mirrorOf(t, c, p)
	changes := changesOf(ctx, m)
	require.NoError(t, second(root.Exists(ctx, p)))
	before := f.authentications.Load()
	// Each registration renews the token, hence the long interval.
	require.Eventually(t, func() bool {
		expired := f.authentications.Load() > before
		proxy.Cut()
		return expired
	}, patience, 2500*time.Millisecond)
	for i := range 3 {
		value := fmt.Sprint(i)
		require.Eventually(t, func() bool { return put(root, p+"other")(ctx) == nil }, patience, time.Millisecond)
		require.NoError(t, root.Put(ctx, p+"k", []byte(value)))
	}
	for seen := 0; seen < 3; {
		if change := next(t, changes); change.Key == p+"k" {
			require.Equal(t, fmt.Sprint(seen), string(change.New.Value))
			seen++
		}
	}
	for seen := 0; seen < 3; {
		r := next(t, w)
		require.NoError(t, r.Err())
		for _, e := range r.Events {
			if e.Kv.Key == p+"k" {
				require.Equal(t, fmt.Sprint(seen), string(e.Kv.Value))
				seen++
			}
		}
	}
	equalsServer(t, root, m, p)
}

// The server checks a permission when a watch is registered, and not again.
func TestWatchDeliversUntilItIsRegisteredWithoutPermission(t *testing.T) {
	t.Parallel()
	srv := server(t, forgetful(), etcdtest.WithAuth("root"), etcdtest.WithUser("u", "p", etcdtest.Permission{Prefix: "/", Read: true}))
	root := client(t, config(srv).WithAuth("root", "root"))
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, config(srv).WithEndpoints(proxy.Endpoint()).WithAuth("u", "p"))
	p, ctx := prefix(t), within(t, patience)
	require.NoError(t, root.Put(ctx, p+"k", []byte("1")))
	w := c.WatchPrefix(ctx, p, etcd.WithPrevKV())
	require.NoError(t, root.Put(ctx, p+"k", []byte("2")))
	require.Equal(t, "1", string(events(t, w, 1)[0].PrevKv.Value))
	users, err := root.Raw().UserGet(ctx, "u")
	require.NoError(t, err)
	require.NoError(t, second(root.Raw().UserRevokeRole(ctx, "u", users.Roles[0])))
	require.NoError(t, root.Put(ctx, p+"k", []byte("3")))
	got := events(t, w, 1)[0]
	require.Equal(t, "3", string(got.Kv.Value))
	require.Nil(t, got.PrevKv, "the server left it out, and it may not be read")
	proxy.Cut()
	require.ErrorIs(t, lastError(t, w), etcd.ErrPermissionDenied)
}

// What has happened in an outage comes in one response, which the server divides.
func TestMirrorTakesLargeValuesInFragments(t *testing.T) {
	t.Parallel()
	const values, size = 8, 1_500_000
	var fragments atomic.Int64
	srv := server(t, tapped(nil, nil, func(s grpc.ServerStream, r *pb.WatchResponse) error {
		if r.Fragment {
			fragments.Add(1)
		}
		return s.SendMsg(r)
	}))
	o := newOutage(t, etcd.DefaultConfig(), srv)
	p, ctx := prefix(t), within(t, patience)
	m := mirrorOf(t, o.c, p)
	changes := changesOf(ctx, m, mirror.WithChangesBuffer(1<<30))
	for round := range 2 {
		for i := range values {
			if i == 1 {
				o.begin()
			}
			value := []byte(strings.Repeat(string(rune('a'+i+values*round)), size))
			require.NoError(t, o.direct.Put(within(t, busyTimeout), fmt.Sprint(p, i%4), value))
		}
		o.proxy.Heal()
		for i := range values {
			got := next(t, changes)
			require.Len(t, got.New.Value, size)
			require.Equal(t, byte('a'+i+values*round), got.New.Value[size-1])
			require.False(t, got.Resync)
		}
	}
	equalsServer(t, o.direct, m, p)
	require.Positive(t, fragments.Load())
}

func TestMirrorThroughGRPCProxyIsFresh(t *testing.T) {
	t.Parallel()
	srv := server(t)
	direct := client(t, config(srv))
	c := client(t, etcd.DefaultConfig().WithEndpoints(grpcProxy(t, srv)))
	p, ctx := prefix(t), within(t, patience)
	require.NoError(t, direct.Put(ctx, p+"gone", []byte("old")))
	m := mirrorOf(t, c, p)
	changes := changesOf(ctx, m)
	require.NoError(t, direct.Put(ctx, p+"k", []byte("1")))
	require.NoError(t, m.Fresh(ctx))
	require.Equal(t, map[string]string{p + "gone": "old", p + "k": "1"}, held(m))
	require.NoError(t, second(direct.Txn().Then(etcd.OpDelete(p+"gone"), etcd.OpPut(p+"k", []byte("2"))).Commit(ctx)))
	for range 20 {
		require.NoError(t, direct.Put(ctx, "/elsewhere", nil))
	}
	require.NoError(t, m.Fresh(ctx))
	require.Equal(t, map[string]string{p + "k": "2"}, held(m))
	texts := []string{changeText(next(t, changes)), changeText(next(t, changes)), changeText(next(t, changes))}
	slices.Sort(texts)
	require.Equal(t, []string{"created " + p + "k:  -> 1", "deleted " + p + "gone: old -> ", "updated " + p + "k: 1 -> 2"}, texts)
	equalsServer(t, direct, m, p)
}

func TestWatchAndMirrorTellThousandExpiriesAtOnce(t *testing.T) {
	t.Parallel()
	const keys = 1000
	srv := server(t, etcdtest.WithMaxTxnOps(2*keys))
	cfg := config(srv)
	cfg.MaxTxnOps = 2 * keys
	c := client(t, cfg)
	p, ctx := prefix(t), within(t, patience)
	m := mirrorOf(t, c, p)
	changes := changesOf(ctx, m, mirror.WithExpiry())
	lease, err := c.Grant(ctx, 4*time.Second)
	require.NoError(t, err)
	txn := c.Txn()
	for i := range keys {
		txn.Then(etcd.OpPut(fmt.Sprintf("%s%04d", p, i), fmt.Append(nil, i), etcd.WithLease(lease)))
	}
	done, err := txn.Commit(ctx)
	require.NoError(t, err)
	w := c.WatchPrefix(ctx, p, etcd.WithRevision(done.Revision+1), etcd.WithPrevKV())
	for range keys {
		require.Equal(t, mirror.Created, next(t, changes).Type)
	}
	r := next(t, w)
	require.Len(t, r.Events, keys, "one revision")
	for i, e := range r.Events {
		require.Equal(t, etcd.EventDelete, e.Type)
		require.Equal(t, r.Revision, e.Kv.ModRevision)
		require.Equal(t, fmt.Sprint(i), string(e.PrevKv.Value))
	}
	for i := range keys {
		got := next(t, changes)
		require.Equal(t, fmt.Sprintf("deleted %s%04d: %d ->  (expired)", p, i, i), changeText(got))
		require.Equal(t, r.Revision, got.Revision)
		require.Equal(t, i+1 < keys, got.More)
	}
	require.Zero(t, m.Len())
}

func TestWatchDeliversBinaryKeys(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	p := prefix(t) + "\x00\xff"
	w, beside := c.WatchPrefix(ctx, p), c.WatchPrefix(ctx, "\xff\xff")
	keys := []string{p, p + "\x00", p + "\x00\x00", p + "\xff", p + "\xff\xff", p + "\xc3\x28"}
	for _, key := range keys {
		require.NoError(t, c.Put(ctx, key, []byte(key)))
	}
	require.NoError(t, c.Put(ctx, "\xff\xff\xff", nil)) // no prefix has an end behind it
	for i, e := range events(t, w, len(keys)) {
		require.Equal(t, keys[i], e.Kv.Key)
		require.Equal(t, keys[i], string(e.Kv.Value))
	}
	require.Equal(t, "\xff\xff\xff", events(t, beside, 1)[0].Kv.Key)
}
