package integration

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestWatchDeliversDecodedChangesOfItsKeysOnly(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		p, ctx := prefix(t), within(t, patience)
		key, all := c.Watch(ctx, p+"a"), c.WatchPrefix(ctx, p)

		require.NoError(t, c.Put(ctx, p+"a", []byte("one")))
		require.NoError(t, c.Put(ctx, p+"ab", []byte("beside")))
		require.NoError(t, c.Put(ctx, p+"a", nil))
		_, err := c.Delete(ctx, p+"a")
		require.NoError(t, err)

		require.Equal(t, []string{
			"PUT " + p + "a=one @2", "PUT " + p + "ab=beside @3", "PUT " + p + "a= @4", "DELETE " + p + "a= @5",
		}, tellAll(events(t, all, 4)))
		got := events(t, key, 3)
		require.Equal(t, []string{"PUT " + p + "a=one @2", "PUT " + p + "a= @4", "DELETE " + p + "a= @5"}, tellAll(got))
		require.True(t, got[0].IsCreate())
		require.False(t, got[1].IsCreate())
		require.False(t, got[2].IsCreate())
		require.NotNil(t, got[1].Kv.Value)
		require.Nil(t, got[2].Kv.Value)
		require.Nil(t, got[1].PrevKv)
		require.Equal(t, etcd.KeyValue{Key: p + "a", Value: []byte{}, CreateRevision: 2, ModRevision: 4, Version: 2}, *got[1].Kv)
	})
}

func TestWatchFromARevisionDeliversHistoryInOrder(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	require.NoError(t, c.Put(ctx, p+"k", []byte("1")))
	_, err := c.Delete(ctx, p+"k")
	require.NoError(t, err)
	require.NoError(t, c.Put(ctx, p+"k", []byte("2")))
	require.NoError(t, c.Put(ctx, p+"k", []byte("3")))

	want := []string{"PUT " + p + "k=1 @2", "DELETE " + p + "k= @3", "PUT " + p + "k=2 @4", "PUT " + p + "k=3 @5"}
	require.Equal(t, want, tellAll(events(t, c.Watch(ctx, p+"k", etcd.WithRevision(2)), 4)))
	require.Equal(t, want[2:], tellAll(events(t, c.Watch(ctx, p+"k", etcd.WithRevision(4)), 2)))

	future := c.Watch(ctx, p+"k", etcd.WithRevision(7))
	require.NoError(t, c.Put(ctx, p+"k", []byte("past")))
	require.NoError(t, c.Put(ctx, p+"k", []byte("future")))
	require.Equal(t, []string{"PUT " + p + "k=future @7"}, tellAll(events(t, future, 1)))
}

func TestWatchDeliversARevisionWhole(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	live := c.WatchPrefix(ctx, p)
	for i := range 20 {
		v := []byte(strconv.Itoa(i))
		_, err := c.Txn().Then(etcd.OpPut(p+"a", v), etcd.OpPut(p+"b", v), etcd.OpDelete(p+"c"), etcd.OpPut(p+"d", v)).Commit(ctx)
		require.NoError(t, err)
	}
	for _, w := range []etcd.WatchChan{live, c.WatchPrefix(ctx, p, etcd.WithRevision(2))} {
		for rev := int64(2); rev < 22; {
			evs := next(t, w).Events
			require.Zero(t, len(evs)%3, "a torn revision")
			for ; len(evs) > 0; evs = evs[3:] {
				require.Equal(t, []int64{rev, rev, rev}, []int64{evs[0].Kv.ModRevision, evs[1].Kv.ModRevision, evs[2].Kv.ModRevision})
				rev++
			}
		}
	}
}

func TestWatchMissesNothingAfterItHasReturned(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	for i := range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		w := c.Watch(ctx, p+"k")
		require.NoError(t, c.Put(ctx, p+"k", []byte(strconv.Itoa(i))))
		require.Equal(t, strconv.Itoa(i), string(events(t, w, 1)[0].Kv.Value))
		cancel()
		closes(t, w)
	}
}

func TestWatchAddsThePreviousValueWhereOneExisted(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		p, ctx := prefix(t), within(t, patience)
		require.NoError(t, c.Put(ctx, p+"k", []byte("1"))) // 2
		require.NoError(t, c.Put(ctx, p+"k", []byte("2"))) // 3
		_, err := c.Delete(ctx, p+"k")                     // 4
		require.NoError(t, err)

		evs := events(t, c.Watch(ctx, p+"k", etcd.WithRevision(2), etcd.WithPrevKV()), 3)
		require.Nil(t, evs[0].PrevKv)
		require.Equal(t, etcd.KeyValue{Key: p + "k", Value: []byte("1"), CreateRevision: 2, ModRevision: 2, Version: 1}, *evs[1].PrevKv)
		require.Equal(t, "2", string(evs[2].PrevKv.Value))

		_, err = c.Raw().Compact(ctx, 3)
		require.NoError(t, err)
		evs = events(t, c.Watch(ctx, p+"k", etcd.WithRevision(3), etcd.WithPrevKV()), 2)
		require.Nil(t, evs[0].PrevKv, "the previous value was compacted")
		require.False(t, evs[0].IsCreate())
		require.NoError(t, evs[0].Err)
		require.Equal(t, "2", string(evs[1].PrevKv.Value))
	})
}

func TestWatchDeliversOneTypeOnlyIfAsked(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	for _, v := range []string{"1", "2"} {
		require.NoError(t, c.Put(ctx, p+"k", []byte(v)))
		_, err := c.Delete(ctx, p+"k")
		require.NoError(t, err)
	}
	puts := c.Watch(ctx, p+"k", etcd.WithRevision(2), etcd.WithOnly(etcd.EventPut))
	require.Equal(t, []string{"PUT " + p + "k=1 @2", "PUT " + p + "k=2 @4"}, tellAll(events(t, puts, 2)))
	deletes := c.Watch(ctx, p+"k", etcd.WithRevision(2), etcd.WithOnly(etcd.EventDelete))
	require.Equal(t, []string{"DELETE " + p + "k= @3", "DELETE " + p + "k= @5"}, tellAll(events(t, deletes, 2)))
}

// quickProgress has a server report the progress of quiet watches often. It may
// hold for all of them, which does no harm to the others.
func quickProgress() etcdtest.Option { return etcdtest.WithProgressInterval(100 * time.Millisecond) }

func TestWatchTellsOfProgressIfAsked(t *testing.T) {
	c := client(t, config(server(t, quickProgress())))
	p, ctx := prefix(t), within(t, patience)
	w := c.Watch(ctx, p+"quiet", etcd.WithProgressNotify())
	require.NoError(t, c.Put(ctx, p+"other", nil))
	for {
		r := next(t, w)
		require.NoError(t, r.Err())
		require.Empty(t, r.Events)
		if r.Revision == 2 {
			break
		}
	}
	require.NoError(t, c.Put(ctx, p+"quiet", nil))
	for r := next(t, w); ; r = next(t, w) {
		if len(r.Events) > 0 {
			require.Equal(t, int64(3), r.Revision)
			break
		}
		require.Equal(t, int64(2), r.Revision)
	}
}

func TestQuietWatchIsResumedBehindACompaction(t *testing.T) {
	srv := server(t, quickProgress())
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	direct, c := client(t, config(srv)), client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	p, ctx := prefix(t), within(t, patience)
	quiet := c.Watch(ctx, p+"quiet")
	for range 10 {
		require.NoError(t, direct.Put(ctx, p+"other", nil))
	}
	// This watch was made later, and so are its reports.
	clock := c.Watch(ctx, p+"clock", etcd.WithProgressNotify())
	for seen := 0; seen < 5; seen++ {
		require.EqualValues(t, 11, next(t, clock).Revision)
	}
	proxy.Refuse()
	proxy.Cut()
	require.NoError(t, direct.Put(ctx, p+"quiet", []byte("news"))) // 12
	_, err := direct.Raw().Compact(ctx, 11)
	require.NoError(t, err)
	proxy.Heal()
	require.Equal(t, []string{"PUT " + p + "quiet=news @12"}, tellAll(events(t, quiet, 1)))
}

func TestCompactedWatchNamesTheRevisionToResumeFrom(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	for i := range 5 {
		require.NoError(t, c.Put(ctx, p+"k", []byte(strconv.Itoa(i))))
	}
	_, err := c.Raw().Compact(ctx, 4)
	require.NoError(t, err)

	w := c.Watch(ctx, p+"k", etcd.WithRevision(2))
	last := next(t, w)
	require.ErrorIs(t, last.Err(), etcd.ErrCompacted)
	require.EqualValues(t, 4, last.CompactRevision)
	closes(t, w)
	require.Equal(t, "2", string(events(t, c.Watch(ctx, p+"k", etcd.WithRevision(last.CompactRevision)), 3)[0].Kv.Value))
}

func TestForbiddenWatchEndsWithPermissionDenied(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth("root"), etcdtest.WithUser("reader", "pass", etcdtest.Permission{Prefix: "/open/", Read: true}))
	c := client(t, config(srv).WithAuth("reader", "pass"))
	ctx := within(t, patience)

	err := lastError(t, c.Watch(ctx, "/secret/k"))
	require.ErrorIs(t, err, etcd.ErrPermissionDenied)
	require.ErrorContains(t, err, "/secret/k")
	require.ErrorIs(t, lastError(t, c.WatchPrefix(ctx, "/")), etcd.ErrPermissionDenied)
	anonymous := lastError(t, client(t, config(srv).WithLazyConnect()).Watch(ctx, "/open/k"))
	if since(t, srv, 3, 5) {
		require.ErrorIs(t, anonymous, etcd.ErrUnauthenticated)
	} else { // these tell no reason apart
		require.ErrorIs(t, anonymous, etcd.ErrPermissionDenied)
	}

	open := c.WatchPrefix(ctx, "/open/")
	require.NoError(t, client(t, config(srv).WithAuth("root", "root")).Put(ctx, "/open/k", []byte("v")))
	require.Equal(t, "v", string(events(t, open, 1)[0].Kv.Value))
}

func TestWatchEndsWithItsContextWithoutError(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	ctx, cancel := context.WithCancel(t.Context())
	idle, unread := c.Watch(ctx, p+"idle"), c.Watch(ctx, p+"k")
	for range 5 {
		require.NoError(t, c.Put(ctx, p+"k", nil))
	}
	next(t, unread)
	cancel()
	closes(t, idle)
	for r := range unread { // what was on its way may come, but no error
		require.NoError(t, r.Err())
	}
	closes(t, c.Watch(ctx, p+"k")) // ended before it began
}

func TestClosedClientTellsItsWatches(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	p, ctx := prefix(t), within(t, patience)
	waiting, unread := c.Watch(ctx, p+"quiet"), c.Watch(ctx, p+"k")
	for range 5 {
		require.NoError(t, c.Put(ctx, p+"k", nil))
	}
	told := make(chan error, 1)
	go func() { told <- (<-waiting).Err() }()

	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	require.NoError(t, next(t, closed), "Close waits for a reader")
	require.ErrorIs(t, next(t, told), etcd.ErrClosed)
	closes(t, waiting)

	// Nobody read this one: what it had not delivered can be had by a new watch.
	last := next(t, unread)
	require.ErrorIs(t, last.Err(), etcd.ErrClosed)
	closes(t, unread)
	again := client(t, config(srv)).Watch(ctx, p+"k", etcd.WithRevision(last.Revision+1))
	require.Len(t, events(t, again, 5), 5)
}

func TestWatchThatCannotBeginsWithItsError(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv))
	gone, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	var none context.Context
	ctx := within(t, patience)
	for name, test := range map[string]struct {
		watch func() etcd.WatchChan
		want  error
	}{
		"nil context":       {func() etcd.WatchChan { return c.Watch(none, "k") }, etcd.ErrNilContext},
		"empty key":         {func() etcd.WatchChan { return c.Watch(ctx, "") }, etcd.ErrEmptyKey},
		"empty prefix":      {func() etcd.WatchChan { return c.WatchPrefix(ctx, "") }, etcd.ErrEmptyPrefix},
		"negative revision": {func() etcd.WatchChan { return c.Watch(ctx, "k", etcd.WithRevision(-1)) }, etcd.ErrInvalidArgument},
		"closed client":     {func() etcd.WatchChan { return gone.Watch(ctx, "k") }, etcd.ErrClosed},
		"key too long":      {func() etcd.WatchChan { return c.Watch(ctx, string(make([]byte, etcd.DefaultMaxKeyBytes+1))) }, etcd.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			err := lastError(t, test.watch())
			require.ErrorIs(t, err, test.want)
			var e *etcd.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "watch", e.Op)
		})
	}
	everything := c.WatchPrefix(ctx, "", etcd.WithAllKeys())
	require.NoError(t, c.Put(ctx, "\x00", nil))
	require.Equal(t, "\x00", events(t, everything, 1)[0].Kv.Key)
}

func TestUndecodableValueDoesNotEndAWatch(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	p, ctx := prefix(t), within(t, patience)
	w := c.Watch(ctx, p+"k", etcd.WithPrevKV())
	require.NoError(t, c.Put(ctx, p+"k", []byte("good")))
	_, err := c.Raw().Put(ctx, p+"k", "plaintext from elsewhere")
	require.NoError(t, err)
	require.NoError(t, c.Put(ctx, p+"k", []byte("good again")))
	require.NoError(t, c.Put(ctx, p+"k", []byte("and again")))

	evs := events(t, w, 4)
	require.NoError(t, evs[0].Err)
	require.Equal(t, "good", string(evs[0].Kv.Value))

	var broken *etcd.DecodeError
	require.ErrorAs(t, evs[1].Err, &broken)
	require.ErrorIs(t, evs[1].Err, etcd.ErrNotEncrypted)
	require.Equal(t, p+"k", broken.Key)
	require.Nil(t, evs[1].Kv.Value)
	require.Equal(t, "good", string(evs[1].PrevKv.Value))

	require.ErrorAs(t, evs[2].Err, &broken, "the value before it")
	require.Equal(t, "good again", string(evs[2].Kv.Value))
	require.Nil(t, evs[2].PrevKv)

	require.NoError(t, evs[3].Err)
	require.Equal(t, "good again", string(evs[3].PrevKv.Value))
}

func TestThousandWatchesOfOneClient(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	watches := make([]etcd.WatchChan, 1000)
	for i := range watches {
		watches[i] = c.Watch(ctx, p+strconv.Itoa(i))
	}
	values := make(map[string][]byte)
	for i := range watches {
		values[p+strconv.Itoa(i)] = []byte(strconv.Itoa(i))
		if len(values) == 100 {
			require.NoError(t, c.BulkPut(ctx, values))
			clear(values)
		}
	}
	for i, w := range watches {
		require.Equal(t, strconv.Itoa(i), string(events(t, w, 1)[0].Kv.Value))
	}
}
