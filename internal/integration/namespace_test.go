package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestEveryWritePathStoresUnderTheNamespace(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithNamespace("space/"))
	other := client(t, config(srv).WithNamespace("spa"))
	for name, write := range writePaths {
		require.NoError(t, write(t.Context(), c, name), name)
	}
	keys := storedKeys(t, c)
	require.Greater(t, len(keys), len(writePaths))
	for _, key := range keys {
		require.Regexp(t, "^space/", key)
	}
	// Whoever holds it under a shorter name sees the rest of the longer one.
	seen, err := other.List(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, "ce/", seen[0][:3])
	own, err := c.List(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, own, len(keys))
	for i, key := range own {
		require.Equal(t, keys[i], "space/"+key)
	}
}

func TestNamespacesDoNotMix(t *testing.T) {
	t.Parallel()
	srv := server(t)
	a := client(t, config(srv).WithNamespace("a/").WithEncryption(testKey))
	b := client(t, config(srv).WithNamespace("b/").WithEncryption(testKey))
	end := client(t, config(srv).WithNamespace("\xff").WithEncryption(testKey))
	ctx := within(t, busyTimeout)
	watch := a.WatchPrefix(ctx, "", etcd.WithAllKeys(), etcd.WithPrevKV())
	clients := []*etcd.Client{b, end, a}
	own := map[*etcd.Client]string{a: "value of a", b: "value of b", end: "value of the end"}
	for _, c := range clients {
		require.NoError(t, c.Put(ctx, "key", []byte(own[c])))
	}
	// The first event is a's own.
	require.Equal(t, []string{"PUT value of a"}, eventsOf(t, watch, 1))

	for _, c := range clients {
		for name, path := range readPaths {
			got, err := path.read(ctx, c, "key", "key")
			require.NoError(t, err, name)
			require.Equal(t, map[string]string{"key": own[c]}, got, name)
		}
		keys, err := c.GetRange(ctx, "", "")
		require.NoError(t, err)
		require.Equal(t, []string{"key"}, keysOf(keys))
		count, err := c.Count(ctx, "")
		require.NoError(t, err)
		require.Equal(t, int64(1), count)
		keyed, err := c.GetKeysByPattern(ctx, "*")
		require.NoError(t, err)
		require.Equal(t, []string{"key"}, keyed)
	}
	// A value that was moved to another namespace does not open.
	plant(t, a, "b/key", storedBytes(t, a, "a/key"))
	_, err := b.Get(ctx, "key")
	requireUndecodable(t, err, "key", etcd.ErrDecrypt, "moved")

	_, err = a.DeletePrefix(ctx, "")
	require.ErrorIs(t, err, etcd.ErrEmptyPrefix)
	deleted, err := a.DeletePrefix(ctx, "", etcd.WithAllKeys())
	require.NoError(t, err)
	require.Equal(t, int64(1), deleted)
	require.Equal(t, []string{"b/key", "\xffkey"}, storedKeys(t, a))
	requireHolds(t, a, true, "empty namespace", etcd.PrefixEmpty(""))
	requireHolds(t, b, false, "the other", etcd.PrefixEmpty(""))
}

func TestErrorsNameTheKeyWithoutTheNamespace(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithNamespace("space/").WithEncryption(testKey))
	_, err := c.Get(t.Context(), "missing")
	require.EqualError(t, err, `etcd: get "missing": key not found`)
	plant(t, c, "space/bad", "plain")
	_, err = c.Get(t.Context(), "bad")
	require.NotContains(t, err.Error(), "space/")
	r := eventsOf(t, c.Watch(within(t, busyTimeout), "bad", etcd.WithRevision(2)), 1)
	require.Equal(t, []string{"PUT bad"}, r)
}

func TestLocksExcludeWithinANamespaceAlone(t *testing.T) {
	t.Parallel()
	srv := server(t)
	a := client(t, config(srv).WithNamespace("a/"))
	b := client(t, config(srv).WithNamespace("b/"))
	lock := func(c *etcd.Client) (*etcd.Lock, bool) {
		l, err := c.NewLock("lock")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, l.Close()) })
		ok, err := l.TryLock(t.Context())
		require.NoError(t, err)
		return l, ok
	}
	first, ok := lock(a)
	require.True(t, ok)
	second, ok := lock(a)
	require.False(t, ok)
	_, ok = lock(b)
	require.True(t, ok)
	require.Equal(t, "lock", first.Name())
	requireHolds(t, a, true, "held", first.Held())
	require.EqualValues(t, 1, queue(t, a, "lock"))
	require.NoError(t, first.Unlock(t.Context()))
	ok, err := second.TryLock(t.Context())
	require.NoError(t, err)
	require.True(t, ok)
}

func TestLeaseShowsTheKeysOfTheNamespace(t *testing.T) {
	t.Parallel()
	srv := server(t)
	a := client(t, config(srv).WithNamespace("a/"))
	b := client(t, config(srv).WithNamespace("long name/"))
	lease, err := a.Grant(t.Context(), time.Minute)
	require.NoError(t, err)
	require.NoError(t, a.PutWithLease(t.Context(), "key", nil, lease))
	require.NoError(t, b.PutWithLease(t.Context(), "other", nil, lease))
	status, err := a.TimeToLive(t.Context(), lease)
	require.NoError(t, err)
	require.Equal(t, []string{"key"}, status.Keys)
}

func TestKeyLimitCountsTheNamespace(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithNamespace("12345").WithMaxKeyBytes(10))
	require.NoError(t, c.Put(t.Context(), "67890", nil))
	require.ErrorIs(t, c.Put(t.Context(), "678901", nil), etcd.ErrTooLarge)
}
