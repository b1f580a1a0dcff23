package integration

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// The process was cut off while its primary key was retired and deleted: it reads the ring
// again, and nobody else would read what it writes.
func TestProcessWhosePrimaryKeyIsGoneStopsWriting(t *testing.T) {
	t.Parallel()
	srv, muted, _ := mutedServer(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	ctx := t.Context()
	leader, p := created(t, srv), newProcess(t, proxy.Endpoint())
	var err error
	p.StoredKeyring, err = etcd.OpenKeyring(ctx, p.client, ringKey, p.outer, etcd.WithKeyringFreshness(time.Second))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	c := p.values(t, func(cfg *etcd.Config) { cfg.WithEndpoints(srv.Endpoint()) })
	require.Eventually(t, func() bool { return c.Put(ctx, "/k", []byte("before")) == nil }, patience, time.Millisecond)

	first := p.primary(t)
	proxy.Refuse()
	proxy.Cut()
	muted.Store(true) // it sees the changes as one
	leader.rotated(t)
	require.NoError(t, leader.RetireKey(ctx, first, etcd.WithRetireAge(0), etcd.WithoutProof()))
	require.NoError(t, leader.DeleteKey(ctx, first, etcd.WithRetireAge(0), etcd.WithoutProof()))
	proxy.Heal()
	require.Eventually(t, func() bool { return errors.Is(p.Err(), etcd.ErrKeyringReplaced) }, patience, time.Millisecond)
	require.Eventually(t, func() bool {
		err = c.Put(ctx, "/k", []byte("lagging"))
		return errors.Is(err, etcd.ErrKeyringStale) && errors.Is(err, etcd.ErrKeyringReplaced)
	}, patience, 10*time.Millisecond)
	require.False(t, etcd.MaybeApplied(err))
	require.Equal(t, first, p.primary(t))
	_, err = c.Get(ctx, "/k") // it still reads
	require.NoError(t, err)

	require.NoError(t, p.Adopt(ctx))
	require.NoError(t, c.Put(ctx, "/k", []byte("adopted")))
	requireValue(t, leader.values(t), "/k", "adopted")
}

// A ring that anybody can bring about, who can write to etcd, stops nobody.
func TestRingThatIsNoSuccessorStopsNoWrite(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx := t.Context()
	p := created(t, srv)
	old := storedBytes(t, p.client, ringKey)
	p.rotated(t)
	var err error
	q := newProcess(t, srv.Endpoint())
	q.StoredKeyring, err = etcd.OpenKeyring(ctx, q.client, ringKey, q.outer, etcd.WithKeyringFreshness(time.Second))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, q.Close()) })
	c := q.values(t)
	plant(t, p.client, ringKey, old)
	q.fails(t, etcd.ErrKeyringReplaced)
	writesOn(t, c)
	_, err = p.client.Delete(ctx, ringKey)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return errors.Is(q.Err(), etcd.ErrKeyNotFound) }, patience, time.Millisecond)
	writesOn(t, c)
}

// After a restore of the cluster a process writes with the primary key that is stored,
// which later generations change without its own.
func TestProcessWritesOnAfterARestore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	srv := server(t, etcdtest.WithDir(dir), etcdtest.WithFsync())
	ctx := t.Context()
	p := newProcess(t, srv.Endpoint())
	var err error
	p.StoredKeyring, err = etcd.CreateKeyring(ctx, p.client, ringKey, p.outer, etcd.WithKeyringFreshness(time.Second))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	backup := copied(t, srv, dir)
	writer := p.values(t)
	for range 50 {
		require.NoError(t, p.client.Put(ctx, "/other", nil))
	}
	p.rotated(t)
	putBack(t, srv, dir, backup)
	require.Eventually(t, func() bool { return errors.Is(p.Err(), etcd.ErrRevisionRegressed) }, patience, time.Millisecond)
	fresh := overtaken(t, srv, p)
	require.ErrorIs(t, p.Err(), etcd.ErrKeyringReplaced)
	writesOn(t, writer)
	requireValue(t, fresh.values(t), "/k", "value")
}
