package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
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
	other := opened(t, srv.Endpoint())
	for other.Info().Generation <= p.Info().Generation {
		other.rotated(t)
	}
	require.Eventually(t, func() bool { return p.primary(t) == other.primary(t) }, patience, time.Millisecond)
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
	other := opened(t, srv.Endpoint())
	for other.Info().Generation <= p.Info().Generation {
		other.rotated(t)
	}
	require.Eventually(t, func() bool { return p.primary(t) == other.primary(t) }, patience, time.Millisecond)
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

// Both changes may come at once: here they wait for the outer key to open one before.
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
