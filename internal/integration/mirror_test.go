package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
	"github.com/blueprint-go/etcd/mirror"
)

func TestMirrorIsLoadedWhenOpened(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, want := prefix(t), map[string]string{}
	for i := range 300 {
		key, value := fmt.Sprintf("%s%03d", p, i), strings.Repeat("v", i)
		require.NoError(t, c.Put(t.Context(), key, []byte(value)))
		want[key] = value
	}
	require.NoError(t, c.Put(t.Context(), "elsewhere", nil))
	m := mirrorOf(t, c, p)
	require.Equal(t, want, held(m))
	require.Equal(t, 300, m.Len())
	require.Equal(t, revisionOf(t, c), m.Revision())
	for key, value := range want {
		kv, ok := m.Get(key)
		require.True(t, ok)
		require.Equal(t, value, string(kv.Value))
		onServer, err := c.GetKV(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, onServer, kv)
	}
	for _, missing := range []string{"", "elsewhere", p, p + "000\x00"} {
		kv, ok := m.Get(missing)
		require.False(t, ok)
		require.Zero(t, kv)
	}
}

func TestMirrorShowsAWriteThatWasWaitedFor(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	p := prefix(t)
	m := mirrorOf(t, c, p)
	for i := range 50 {
		text := fmt.Sprint(i)
		require.NoError(t, m.WaitFor(within(t, patience), putRevision(t, other, p+"k", text)))
		kv, ok := m.Get(p + "k")
		require.True(t, ok)
		require.Equal(t, text, string(kv.Value))
	}
	before := m.Revision()
	elsewhere := putRevision(t, other, "elsewhere", "")
	require.NoError(t, m.WaitFor(within(t, patience), elsewhere))
	require.GreaterOrEqual(t, m.Revision(), elsewhere)
	require.Greater(t, elsewhere, before)
	require.NoError(t, m.WaitFor(within(t, patience), 0))
}

func TestFreshMirrorHoldsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	p := prefix(t)
	m := mirrorOf(t, c, p)
	var callers sync.WaitGroup
	for i := range 16 {
		callers.Go(func() {
			for n := range 20 {
				key := fmt.Sprintf("%s%d", p, i)
				if err := other.Put(t.Context(), key, fmt.Append(nil, n)); err != nil {
					t.Error(err)
				}
				if n%3 == 0 { // the revision to wait for is of no key of the mirror
					if err := other.Put(t.Context(), "elsewhere", nil); err != nil {
						t.Error(err)
					}
				}
				if err := m.Fresh(within(t, patience)); err != nil {
					t.Error(err)
				}
				if kv, _ := m.Get(key); string(kv.Value) != fmt.Sprint(n) {
					t.Errorf("%s is %q after %d was put", key, kv.Value, n)
				}
			}
		})
	}
	callers.Wait()
	equalsServer(t, c, m, p)
}

func TestMirrorHoldsAnyKeyAndValue(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithMaxRequestBytes(4<<20))
	c := client(t, config(srv).WithMaxRequestBytes(4<<20))
	p := prefix(t)
	large := strings.Repeat("x", 3<<19)
	require.NoError(t, c.Put(t.Context(), p+"\x00", nil))
	require.NoError(t, c.Put(t.Context(), p+"large0", []byte(large)))
	m := mirrorOf(t, c, p)
	changes := changesOf(within(t, patience), m)
	require.NoError(t, c.Put(t.Context(), p+"\xff\x00\xff", []byte("binary")))
	require.NoError(t, c.Put(t.Context(), p+"empty", nil))
	require.NoError(t, c.Put(t.Context(), p, []byte("the prefix")))
	require.NoError(t, c.Put(t.Context(), p+"large1", []byte(large)))
	for range 4 {
		require.Equal(t, mirror.Created, next(t, changes).Type)
	}
	equalsServer(t, c, m, p)
	kv, ok := m.Get(p + "empty")
	require.True(t, ok)
	require.NotNil(t, kv.Value)
	require.Empty(t, kv.Value)
	_, ok = m.Get(p + "missing")
	require.False(t, ok)
	require.Equal(t, 6, m.Len())
}

func TestMirrorOfEverythingNeedsItsOption(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	require.NoError(t, c.Put(t.Context(), "a", []byte("1")))
	_, err := mirror.Open(t.Context(), c, "")
	require.ErrorIs(t, err, etcd.ErrEmptyPrefix)
	m := mirrorOf(t, c, "", mirror.WithAllKeys())
	require.NoError(t, c.Put(t.Context(), "\xff\xff", []byte("2")))
	require.NoError(t, m.Fresh(within(t, patience)))
	require.Equal(t, map[string]string{"a": "1", "\xff\xff": "2"}, held(m))
}

func TestMirrorKeepsToItsNamespace(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, raw := client(t, config(srv).WithNamespace("tenant/")), client(t, config(srv))
	require.NoError(t, c.Put(t.Context(), "a", []byte("1")))
	m := mirrorOf(t, c, "", mirror.WithAllKeys())
	require.NoError(t, raw.Put(t.Context(), "tenant/b", []byte("2")))
	require.NoError(t, raw.Put(t.Context(), "c", []byte("3")))
	require.NoError(t, m.Fresh(within(t, patience)))
	require.Equal(t, map[string]string{"a": "1", "b": "2"}, held(m))
}

func TestMirrorNeverShowsClaimsOfLocks(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	p := prefix(t)
	held1, err := other.NewLock(p + "lock")
	require.NoError(t, err)
	require.NoError(t, held1.Lock(within(t, patience)))
	m := mirrorOf(t, c, p)
	changes := changesOf(within(t, patience), m)
	require.Zero(t, m.Len())
	held2, err := other.NewLock(p + "another")
	require.NoError(t, err)
	require.NoError(t, held2.Lock(within(t, patience)))
	require.NoError(t, held1.Unlock(within(t, patience)))
	require.NoError(t, held2.Unlock(within(t, patience)))
	require.NoError(t, other.Put(t.Context(), p+"k", []byte("v")))
	require.Equal(t, "created "+p+"k:  -> v", changeText(next(t, changes)))
	require.Equal(t, map[string]string{p + "k": "v"}, held(m))
	equalsServer(t, c, m, p)
}

func TestManyMirrorsShareTheStreamsOfAClient(t *testing.T) {
	t.Parallel()
	var streams watchStreams
	srv := server(t, streams.option(100))
	c, other := client(t, config(srv)), client(t, config(srv))
	p := prefix(t)
	all := make([]*mirror.Mirror, 200)
	for i := range all {
		all[i] = mirrorOf(t, c, fmt.Sprintf("%s%03d/", p, i))
	}
	for i := range all {
		require.NoError(t, other.Put(t.Context(), fmt.Sprintf("%s%03d/k", p, i), fmt.Append(nil, i)))
	}
	for i, m := range all {
		require.NoError(t, m.Fresh(within(t, patience)))
		require.Equal(t, map[string]string{fmt.Sprintf("%s%03d/k", p, i): fmt.Sprint(i)}, held(m))
	}
	require.LessOrEqual(t, streams.most.Load(), int64(4))
}

func TestMirrorDecryptsAndListsBadValues(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithKeyring(ringOf(t, keyNumber(t, 1))))
	raw := client(t, config(srv))
	p := prefix(t)
	for i := range 100 {
		require.NoError(t, c.Put(t.Context(), fmt.Sprintf("%sgood%02d", p, i), []byte("v")))
	}
	require.NoError(t, raw.Put(t.Context(), p+"bad", []byte("plain")))
	m := mirrorOf(t, c, p)
	require.Equal(t, 100, m.Len())
	require.Len(t, m.Bad(), 1)
	require.ErrorIs(t, m.Bad()[p+"bad"], etcd.ErrNotEncrypted)
	require.Equal(t, 1, m.Status().Bad)
	_, ok := m.Get(p + "bad")
	require.False(t, ok)

	changes := changesOf(within(t, patience), m)
	require.NoError(t, raw.Put(t.Context(), p+"good00", []byte("plain")))
	became := next(t, changes)
	require.Equal(t, "updated "+p+"good00: v -> ", changeText(became))
	require.ErrorIs(t, became.Err, etcd.ErrNotEncrypted)
	require.NotContains(t, became.Err.Error(), "plain")
	require.Nil(t, became.New.Value)
	require.Equal(t, 2, m.Status().Bad)
	require.NoError(t, c.Put(t.Context(), p+"bad", []byte("good")))
	require.Equal(t, "updated "+p+"bad:  -> good", changeText(next(t, changes)))
	require.NoError(t, second(c.Delete(t.Context(), p+"good00")))
	require.Equal(t, "deleted "+p+"good00:  -> ", changeText(next(t, changes)))
	require.Empty(t, m.Bad())
	require.Equal(t, 100, m.Len())
	equalsServer(t, c, m, p)
}

func TestMirrorReadsAgainWhenTheKeyIsAvailable(t *testing.T) {
	t.Parallel()
	srv := server(t)
	aead := newTestAEAD("a")
	c := client(t, config(srv).WithAEAD(etcd.KeyID{1}, aead))
	writer := client(t, config(srv).WithAEAD(etcd.KeyID{1}, newTestAEAD("a")))
	p := prefix(t)
	m := mirrorOf(t, c, p)
	changes := changesOf(within(t, patience), m)
	aead.down.Store(true)
	require.NoError(t, writer.Put(t.Context(), p+"k", []byte("v")))
	hidden := next(t, changes)
	require.ErrorIs(t, hidden.Err, etcd.ErrKeyUnavailable)
	require.ErrorIs(t, m.Bad()[p+"k"], etcd.ErrKeyUnavailable)
	aead.down.Store(false)
	shown := next(t, changes)
	require.Equal(t, "updated "+p+"k:  -> v (resync)", changeText(shown))
	require.NoError(t, shown.Err)
	require.Empty(t, m.Bad())
	kv, ok := m.Get(p + "k")
	require.True(t, ok)
	require.Equal(t, "v", string(kv.Value))
}

func TestMirrorRefusesBadArguments(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	var none context.Context
	_, err := mirror.Open(none, c, p)
	require.ErrorIs(t, err, etcd.ErrNilContext)
	_, err = mirror.Open(t.Context(), nil, p)
	require.ErrorIs(t, err, etcd.ErrInvalidArgument)
	_, err = mirror.Open(t.Context(), c, p, nil)
	require.ErrorIs(t, err, etcd.ErrInvalidArgument)
	m := mirrorOf(t, c, p)
	require.ErrorIs(t, m.Fresh(none), etcd.ErrNilContext)
	require.ErrorIs(t, m.WaitFor(none, 1), etcd.ErrNilContext)
	require.ErrorIs(t, m.WaitFor(t.Context(), -1), etcd.ErrInvalidArgument)
	only := func(ctx context.Context, opts ...mirror.ChangesOption) error {
		var all []mirror.Change
		for change := range m.Changes(ctx, opts...) {
			all = append(all, change)
		}
		require.Len(t, all, 1)
		require.Equal(t, mirror.Ended, all[0].Type)
		return all[0].Err
	}
	require.ErrorIs(t, only(none), etcd.ErrNilContext)
	require.ErrorIs(t, only(t.Context(), nil), etcd.ErrInvalidArgument)
	for _, n := range []int{0, -1} {
		require.ErrorIs(t, only(t.Context(), mirror.WithChangesBuffer(n)), etcd.ErrInvalidArgument)
	}
	closed, err := etcd.NewClient(config(server(t)))
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, err = mirror.Open(t.Context(), closed, p)
	require.ErrorIs(t, err, etcd.ErrClosed)
}

func TestMirrorWaitsForAFutureRevision(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	m := mirrorOf(t, c, p)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error)
	go func() { waited <- m.WaitFor(ctx, m.Revision()+1000) }()
	reached := make(chan error)
	go func() { reached <- m.WaitFor(within(t, patience), m.Revision()+20) }()
	for range 25 {
		require.NoError(t, c.Put(t.Context(), "elsewhere", nil))
	}
	require.NoError(t, next(t, reached))
	cancel()
	require.ErrorIs(t, next(t, waited), context.Canceled)
}
