package integration

import (
	"context"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// whileAway has c miss what f does, and compacts that.
func whileAway(t *testing.T, proxy *etcdtest.Proxy, direct *etcd.Client, f func()) {
	t.Helper()
	proxy.Refuse()
	proxy.Cut()
	f()
	compactAll(t, direct)
	proxy.Heal()
}

func TestWatchWithResyncOutlivesACompaction(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	observed := &observedWatch{}
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()).WithEncryption(testKey).WithHooks(observed))
	direct := client(t, config(srv).WithEncryption(testKey))
	p, ctx := prefix(t), within(t, patience)
	w := c.WatchPrefix(ctx, p, etcd.WithResync())
	require.NoError(t, direct.BulkPut(ctx, map[string][]byte{p + "gone": []byte("1"), p + "kept": []byte("1")}))
	events(t, w, 2)
	var last etcd.WriteResult
	whileAway(t, proxy, direct, func() {
		require.NoError(t, direct.Put(ctx, p+"kept", []byte("2")))
		require.NoError(t, second(direct.Delete(ctx, p+"gone")))
		require.NoError(t, direct.WithLock(ctx, p+"lock", func(context.Context) error {
			return direct.Put(ctx, p+"new", nil, etcd.WithResult(&last))
		}))
	})
	r := next(t, w)
	require.NoError(t, r.Err())
	require.Equal(t, etcd.WatchResynced, r.State)
	require.ErrorIs(t, r.Cause, etcd.ErrCompacted)
	require.GreaterOrEqual(t, r.Revision, last.Revision)
	require.Len(t, r.Events, 2)
	require.Equal(t, p+"kept", r.Events[0].Kv.Key)
	require.Equal(t, "2", string(r.Events[0].Kv.Value))
	require.Equal(t, p+"new", r.Events[1].Kv.Key)
	require.NoError(t, direct.Put(ctx, p+"after", nil))
	require.Equal(t, p+"after", events(t, w, 1)[0].Kv.Key)
	require.Contains(t, observed.all(), "resynced after "+etcd.ErrCompacted.Error()+" "+p)
}

func TestResyncOfNothingIsToldToo(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	require.NoError(t, c.Put(ctx, p+"k", nil))
	require.NoError(t, second(c.Delete(ctx, p+"k")))
	require.NoError(t, c.Put(ctx, "other", nil))
	compactAll(t, c)
	for name, w := range map[string]etcd.WatchChan{
		"prefix": c.WatchPrefix(ctx, p, etcd.WithRevision(2), etcd.WithResync()),
		"key":    c.Watch(ctx, p+"k", etcd.WithRevision(2), etcd.WithResync()),
		"range":  c.WatchRange(ctx, p, p+"~", etcd.WithRevision(2), etcd.WithResync()),
	} {
		r := next(t, w)
		require.NoError(t, r.Err(), name)
		require.Equal(t, etcd.WatchResynced, r.State, name)
		require.EqualValues(t, 4, r.Revision, name)
		require.Empty(t, r.Events, name)
	}
}

func TestResyncOfDeletionsHasNoEvents(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	for range 3 {
		require.NoError(t, c.Put(ctx, p+"k", nil))
	}
	compactAll(t, c)
	w := c.WatchPrefix(ctx, p, etcd.WithRevision(2), etcd.WithResync(), etcd.WithOnly(etcd.EventDelete))
	r := next(t, w)
	require.Equal(t, etcd.WatchResynced, r.State)
	require.Empty(t, r.Events)
	require.NoError(t, second(c.Delete(ctx, p+"k")))
	require.Equal(t, etcd.EventDelete, events(t, w, 1)[0].Type)
}

func TestTypedWatchTellsOfAResync(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	users := etcd.NewTyped[user](c, p)
	for _, name := range []string{"ann", "ann", "bob"} {
		require.NoError(t, users.Put(ctx, name, user{Name: name}))
	}
	compactAll(t, c)
	var told []string
	for ev, err := range users.Watch(ctx, etcd.WithRevision(2), etcd.WithResync()) {
		require.NoError(t, err)
		if told = append(told, ev.State.String()+" "+ev.Value.Name); len(told) == 3 {
			break
		}
	}
	require.Equal(t, []string{"resynced ", "events ann", "events bob"}, told)
}

func TestWatchWithResyncOutlivesARestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	srv := server(t, etcdtest.WithDir(dir))
	c := client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	require.NoError(t, c.Put(ctx, p+"k", []byte("before the backup")))
	backup := copied(t, srv, dir)
	w := c.WatchPrefix(ctx, p, etcd.WithResync())
	for i := range 20 {
		require.NoError(t, c.Put(ctx, p+"k", []byte(strconv.Itoa(i))))
	}
	events(t, w, 20)
	putBack(t, srv, dir, backup)
	r := next(t, w)
	require.NoError(t, r.Err())
	require.Equal(t, etcd.WatchResynced, r.State)
	require.ErrorIs(t, r.Cause, etcd.ErrRevisionRegressed)
	require.Equal(t, "before the backup", string(r.Events[0].Kv.Value))
	require.NoError(t, c.Put(ctx, p+"k", []byte("after")))
	require.Equal(t, "after", string(events(t, w, 1)[0].Kv.Value))
}
