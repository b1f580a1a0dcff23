package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// A ring that was deleted by accident is made anew by a process that starts.
func TestRingMadeAnewDropsNoKeys(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx := t.Context()
	first := created(t, srv)
	require.NoError(t, first.values(t).Put(ctx, "/old", []byte("old")))
	before, good := first.Keyring().String(), storedBytes(t, first.client, ringKey)
	_, err := first.client.Delete(ctx, ringKey)
	require.NoError(t, err)
	second := created(t, srv)
	require.NoError(t, second.values(t).Put(ctx, "/new", []byte("new")))

	first.fails(t, etcd.ErrKeyringReplaced)
	require.Equal(t, before, first.Keyring().String())
	requireValue(t, first.values(t), "/old", "old")
	require.NotEqual(t, first.Info().Identity, second.Info().Identity)
	_, err = first.AddKey(ctx)
	require.ErrorIs(t, err, etcd.ErrKeyringReplaced)
	require.ErrorIs(t, first.Promote(ctx, first.primary(t)), etcd.ErrKeyringReplaced)
	require.ErrorIs(t, first.RetireKey(ctx, first.primary(t), etcd.WithRetireAge(0), etcd.WithoutProof()), etcd.ErrKeyringReplaced)
	require.ErrorIs(t, first.Restore(ctx), etcd.ErrKeyringReplaced)
	require.Equal(t, second.Keyring().String(), opened(t, srv.Endpoint()).Keyring().String(), "nothing was changed")

	// The ring with the older values comes back, and reads the newer ones as well.
	require.NoError(t, first.Restore(ctx, etcd.WithReplacement()))
	require.NoError(t, first.Err())
	require.Equal(t, int64(2), first.Info().Generation)
	requireValue(t, first.values(t), "/old", "old")
	requireValue(t, first.values(t), "/new", "new")
	second.fails(t, etcd.ErrKeyringReplaced)
	require.NoError(t, second.Adopt(ctx))
	require.NoError(t, second.Err())
	require.Equal(t, first.Info(), second.Info())
	requireValue(t, second.values(t), "/old", "old")
	require.NotEqual(t, good, storedBytes(t, first.client, ringKey))
}

// Who adopts another ring keeps what it had, to read.
func TestAdoptedRingKeepsTheKeysFromBefore(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx := t.Context()
	first := created(t, srv)
	c := first.values(t)
	require.NoError(t, c.Put(ctx, "/old", []byte("old")))
	_, err := first.client.Delete(ctx, ringKey)
	require.NoError(t, err)
	first.fails(t, etcd.ErrKeyNotFound)
	require.ErrorIs(t, first.Adopt(ctx), etcd.ErrKeyNotFound)
	second := created(t, srv)
	require.NoError(t, first.Adopt(ctx))
	require.Equal(t, second.primary(t), first.primary(t))
	require.Equal(t, second.Info(), first.Info())
	requireValue(t, c, "/old", "old")

	// So it can bring everything under the new ring.
	second.rotated(t)
	require.Eventually(t, func() bool { return first.primary(t) == second.primary(t) }, patience, time.Millisecond)
	report, err := c.Reencrypt(ctx, "/old")
	require.NoError(t, err)
	require.Equal(t, int64(1), report.Rewritten)
	requireValue(t, second.values(t), "/old", "old")
}

// Whoever can write to etcd puts an older ring back.
func TestOlderRingIsNotTaken(t *testing.T) {
	t.Parallel()
	srv := server(t)
	p := created(t, srv)
	old, first := storedBytes(t, p.client, ringKey), p.primary(t)
	p.rotated(t)
	require.NoError(t, p.RetireKey(t.Context(), first, etcd.WithRetireAge(0)))
	before, good := p.Keyring().String(), storedBytes(t, p.client, ringKey)
	follower := opened(t, srv.Endpoint())
	plant(t, p.client, ringKey, old)
	for _, p := range []*process{p, follower} {
		p.fails(t, etcd.ErrKeyringReplaced)
		require.NotErrorIs(t, p.Err(), etcd.ErrRevisionRegressed)
		require.Equal(t, before, p.Keyring().String())
		require.Positive(t, p.logged.n.Load())
	}
	// A change would make the older ring the newer one.
	_, err := p.AddKey(t.Context())
	require.ErrorIs(t, err, etcd.ErrKeyringReplaced)
	require.Equal(t, old, storedBytes(t, p.client, ringKey))

	plant(t, p.client, ringKey, good)
	require.Eventually(t, func() bool { return follower.Err() == nil }, patience, time.Millisecond)
	plant(t, p.client, ringKey, old)
	p.fails(t, etcd.ErrKeyringReplaced)
	require.NoError(t, p.Restore(t.Context()))
	require.NoError(t, p.Err())
	follower.comes(t, p.Keyring().String())
	require.Eventually(t, func() bool { return follower.Err() == nil }, patience, time.Millisecond)
	require.Equal(t, before, follower.Keyring().String())
	require.NoError(t, p.Restore(t.Context()), "there is nothing to restore")
}

func TestRingIsSealedForItsPlaceAndContext(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx, outer := t.Context(), &notes{testAEAD: newTestAEAD("outer")}
	c := client(t, config(srv).WithNamespace("/space"))
	prod := etcd.WithKeyringContext([]byte("prod"))
	s, err := etcd.CreateKeyring(ctx, c, "/ring", outer, prod)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	length := func(n int) string { return string(binary.BigEndian.AppendUint32(nil, uint32(n))) }
	want := "etcd key ring 1" + length(11) + "/space/ring" + length(4) + "prod"
	outer.mu.Lock()
	require.Equal(t, [][]byte{[]byte(want)}, outer.data)
	outer.mu.Unlock()

	for name, opts := range map[string][]etcd.KeyringOption{
		"none":    nil,
		"another": {etcd.WithKeyringContext([]byte("staging"))},
	} {
		s, err := etcd.OpenKeyring(ctx, c, "/ring", outer, opts...)
		require.Nil(t, s, name)
		requireUndecodable(t, err, "/ring", etcd.ErrDecrypt, name)
	}
	s, err = etcd.OpenKeyring(ctx, c, "/ring", outer, prod)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	for _, opt := range []etcd.KeyringOption{nil, etcd.WithKeyringFreshness(time.Millisecond)} {
		_, err = etcd.OpenKeyring(ctx, c, "/ring", outer, opt)
		require.ErrorIs(t, err, etcd.ErrInvalidArgument)
	}
}

// A cluster is restored from an older copy while processes run.
func TestRingSurvivesARestoreOfTheCluster(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	srv := server(t, etcdtest.WithDir(dir), etcdtest.WithFsync())
	ctx := t.Context()
	p, follower := created(t, srv), opened(t, srv.Endpoint())
	backup := copied(t, srv, dir)
	writer := p.values(t)
	for i := range 50 {
		require.NoError(t, writer.Put(ctx, "/k", fmt.Append(nil, i)))
	}
	added := p.rotated(t)
	require.NoError(t, writer.Put(ctx, "/k", []byte("under the new key")))
	follower.comes(t, p.Keyring().String())
	before := p.Keyring().String()
	putBack(t, srv, dir, backup)

	_, err := p.AddKey(within(t, busyTimeout))
	require.ErrorIs(t, err, etcd.ErrKeyringReplaced)
	require.ErrorIs(t, err, etcd.ErrRevisionRegressed)
	require.ErrorIs(t, p.Err(), etcd.ErrRevisionRegressed)
	require.ErrorIs(t, p.RetireKey(ctx, added), etcd.ErrKeyringReplaced)
	require.Contains(t, p.Keyring().IDs(), added, "it may be the last copy")
	fresh := opened(t, srv.Endpoint())
	require.NotEqual(t, before, fresh.Keyring().String(), "a process that starts now has the restored ring")

	require.NoError(t, p.Restore(ctx))
	require.NoError(t, p.Err())
	fresh.comes(t, before)
	require.Equal(t, added, fresh.primary(t))
	id, err := p.AddKey(ctx)
	require.NoError(t, err)
	require.Contains(t, p.Keyring().IDs(), id)
	require.ErrorIs(t, follower.Promote(within(t, busyTimeout), etcd.KeyID{1}), etcd.ErrUnknownKey)
	require.Contains(t, follower.Keyring().IDs(), id)
}

// A restore that does not change the ring is no trouble, and what comes after it is
// followed though the revisions are lower than before.
func TestRingIsFollowedAfterARestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	srv := server(t, etcdtest.WithDir(dir), etcdtest.WithFsync())
	p := newProcess(t, srv.Endpoint())
	var err error
	p.StoredKeyring, err = etcd.CreateKeyring(t.Context(), p.client, ringKey, p.outer, etcd.WithKeyringFreshness(time.Second))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	backup := copied(t, srv, dir)
	for range 50 {
		require.NoError(t, p.client.Put(t.Context(), "/k", nil))
	}
	require.NoError(t, p.Restore(t.Context()), "it reads the ring and finds nothing to do")
	putBack(t, srv, dir, backup)
	leader := opened(t, srv.Endpoint())
	leader.rotated(t)
	p.comes(t, leader.Keyring().String())
	require.Eventually(t, func() bool { return p.Err() == nil }, patience, time.Millisecond)
}

// The ring is out of reach for a process that still reaches the values.
func TestProcessThatCannotReadTheRingStopsWriting(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	ctx := t.Context()
	leader, p := created(t, srv), newProcess(t, proxy.Endpoint())
	var err error
	p.StoredKeyring, err = etcd.OpenKeyring(ctx, p.client, ringKey, p.outer, etcd.WithKeyringFreshness(time.Second))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	old := p.primary(t)
	c := p.values(t, func(cfg *etcd.Config) { cfg.WithEndpoints(srv.Endpoint()) })
	require.NoError(t, c.Put(ctx, "/k", []byte("before")))
	proxy.Refuse()
	proxy.Cut()
	added := leader.rotated(t)
	// Until it stops it may write with the old key, and not after that.
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		err = c.Put(ctx, "/k", []byte("lagging"))
		return errors.Is(err, etcd.ErrKeyringStale) // a slow answer is none
	}, patience, 10*time.Millisecond)
	require.False(t, etcd.MaybeApplied(err))
	require.True(t, etcd.IsRetryable(err))
	require.Equal(t, old, p.primary(t))
	require.NoError(t, second(c.Get(ctx, "/k")), "it still reads")

	proxy.Heal()
	require.Eventually(t, func() bool { return c.Put(ctx, "/k", []byte("healed")) == nil }, patience, 10*time.Millisecond)
	require.Equal(t, added, p.primary(t))
	requireValue(t, leader.values(t), "/k", "healed")
	status, err := c.EncryptionStatus(ctx, "/k")
	require.NoError(t, err)
	require.Equal(t, int64(1), status.ByKey[added])
}

// The outer key is needed for changes of the ring only. A change that it can't open in
// time stops the process from writing.
func TestProcessThatCannotOpenAChangeStopsWriting(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx := t.Context()
	leader, p := created(t, srv), newProcess(t, srv.Endpoint())
	var err error
	p.StoredKeyring, err = etcd.OpenKeyring(ctx, p.client, ringKey, p.outer, etcd.WithKeyringFreshness(time.Second))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	c := p.values(t)
	p.outer.down.Store(true)
	writesOn(t, c)
	require.NoError(t, p.Err())

	added := leader.rotated(t)
	require.Eventually(t, func() bool {
		err = c.Put(ctx, "/k", []byte("lagging"))
		return errors.Is(err, errAEADDown) // a slow read of the ring is another reason
	}, patience, 10*time.Millisecond)
	require.ErrorIs(t, err, etcd.ErrKeyringStale)
	p.outer.down.Store(false)
	require.Eventually(t, func() bool { return c.Put(ctx, "/k", []byte("new")) == nil }, patience, 10*time.Millisecond)
	require.Equal(t, added, p.primary(t))
}

// The process that rewrites lags behind, and has the new key to decrypt only.
func TestReencryptBeginsWithTheNewestPrimaryKey(t *testing.T) {
	t.Parallel()
	srv, muted, _ := mutedServer(t)
	ctx := t.Context()
	leader, lagging := created(t, srv), opened(t, srv.Endpoint())
	c := lagging.values(t)
	require.NoError(t, c.Put(ctx, "/old", []byte("old")))
	added, err := leader.AddKey(ctx)
	require.NoError(t, err)
	lagging.comes(t, leader.Keyring().String())
	muted.Store(true)
	require.NoError(t, leader.Promote(ctx, added))
	require.NoError(t, leader.values(t).Put(ctx, "/new", []byte("new")))
	report, err := c.Reencrypt(ctx, "")
	require.NoError(t, err)
	require.Equal(t, int64(1), report.Rewritten)
	status, err := c.EncryptionStatus(ctx, "")
	require.NoError(t, err)
	require.Equal(t, map[etcd.KeyID]int64{added: 2}, status.ByKey)

	// With a ring that is not the stored one nothing is rewritten.
	_, err = leader.client.Delete(ctx, ringKey)
	require.NoError(t, err)
	_, err = c.Reencrypt(ctx, "")
	require.ErrorIs(t, err, etcd.ErrKeyNotFound)
	require.NoError(t, lagging.Close())
	_, err = c.Reencrypt(ctx, "")
	require.NoError(t, err)
}

func TestRingReturnsThoughTheOuterKeyHangs(t *testing.T) {
	t.Parallel()
	srv := server(t)
	leader := created(t, srv)
	outer := &hung{testAEAD: newTestAEAD("outer"), free: make(chan struct{})}
	t.Cleanup(func() { close(outer.free) })
	var rings []*etcd.StoredKeyring
	var clients []*etcd.Client
	for range 2 {
		c := client(t, config(srv).WithTimeout(busyTimeout))
		s, err := etcd.OpenKeyring(t.Context(), c, ringKey, outer)
		require.NoError(t, err)
		rings, clients = append(rings, s), append(clients, c)
	}
	outer.hangs.Store(true)
	short := func() context.Context { return within(t, 200*time.Millisecond) }
	for name, call := range map[string]func() error{
		"add":    func() error { return second(rings[0].AddKey(short())) },
		"retire": func() error { return rings[0].RetireKey(short(), etcd.KeyID{1}) },
		"create": func() error { return second(etcd.CreateKeyring(short(), clients[0], "/another", outer)) },
		"open":   func() error { return second(etcd.OpenKeyring(short(), clients[0], ringKey, outer)) },
	} {
		require.Error(t, call(), name)
	}
	_, err := leader.AddKey(t.Context()) // the followers hang with it
	require.NoError(t, err)
	require.NoError(t, rings[0].Close())
	require.NoError(t, clients[1].Close())
	require.NoError(t, rings[1].Close())
}

// A process whose watch says nothing learns of a promotion by its own reads.
func TestProcessWhoseWatchIsSilentFollowsByReads(t *testing.T) {
	t.Parallel()
	srv, muted, _ := mutedServer(t)
	leader, p := created(t, srv), newProcess(t, srv.Endpoint())
	var err error
	p.StoredKeyring, err = etcd.OpenKeyring(t.Context(), p.client, ringKey, p.outer, etcd.WithKeyringFreshness(time.Second))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	muted.Store(true)
	leader.rotated(t)
	p.comes(t, leader.Keyring().String())
	require.NoError(t, p.Err())
}
