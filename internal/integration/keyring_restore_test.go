package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// The cluster is restored from a copy made before a rotation. The process that rotated
// runs on, and may be the last one that has the newer key.
func TestWritesAfterARestoreAreReadByAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	srv := server(t, etcdtest.WithDir(dir), etcdtest.WithFsync())
	ctx := t.Context()
	p := newProcess(t, srv.Endpoint())
	var err error
	// No read but that after the watch was interrupted tells of the restore.
	p.StoredKeyring, err = etcd.CreateKeyring(ctx, p.client, ringKey, p.outer, etcd.WithKeyringFreshness(time.Hour))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	first := p.primary(t)
	backup := copied(t, srv, dir)
	writer := p.values(t)
	for range 50 {
		require.NoError(t, writer.Put(ctx, "/k", nil))
	}
	added := p.rotated(t)
	putBack(t, srv, dir, backup)
	encryptsWith := func(id etcd.KeyID) {
		require.Eventually(t, func() bool { now, _ := p.Keyring().Primary(); return now == id }, patience, time.Millisecond)
	}
	encryptsWith(first)
	require.ErrorIs(t, p.Err(), etcd.ErrRevisionRegressed)
	require.Contains(t, p.Keyring().IDs(), added)
	require.NoError(t, writer.Put(ctx, "/restored", []byte("restored")))

	// Others that start now change the ring without this one.
	fresh := opened(t, srv.Endpoint())
	requireValue(t, fresh.values(t), "/restored", "restored")
	second := fresh.rotated(t)
	third := fresh.rotated(t)
	encryptsWith(third)
	require.Subset(t, p.Keyring().IDs(), []etcd.KeyID{first, second, third, added})
	require.ErrorIs(t, p.Err(), etcd.ErrKeyringReplaced)
	require.NoError(t, writer.Put(ctx, "/changed", []byte("changed")))
	requireValue(t, opened(t, srv.Endpoint()).values(t), "/changed", "changed")

	require.NoError(t, p.Restore(ctx))
	require.Equal(t, added, p.primary(t))
	all := opened(t, srv.Endpoint())
	require.ElementsMatch(t, []etcd.KeyID{first, second, third, added}, all.Keyring().IDs())
	for _, key := range []string{"restored", "changed"} {
		requireValue(t, all.values(t), "/"+key, key)
	}
}

func TestRestoreBringsNoRetiredKeyBackToUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/data"
	srv := server(t, etcdtest.WithDir(dir), etcdtest.WithFsync())
	ctx := t.Context()
	p := created(t, srv)
	first, writer := p.primary(t), p.values(t)
	require.NoError(t, writer.Put(ctx, "/k", []byte("under the first key")))
	backup := copied(t, srv, dir)
	for range 50 {
		require.NoError(t, p.client.Put(ctx, "/other", nil))
	}
	added := p.rotated(t)
	require.NoError(t, p.RetireKey(ctx, first, etcd.WithRetireAge(0), etcd.WithoutProof()))
	putBack(t, srv, dir, backup)
	requireValue(t, writer, "/k", "under the first key")
	p.fails(t, etcd.ErrRevisionRegressed)
	require.Equal(t, added, p.primary(t))
}
