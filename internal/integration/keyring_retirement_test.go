package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestKeyInUseIsNotRetired(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx := t.Context()
	p := created(t, srv)
	c, old := p.values(t), p.primary(t)
	require.NoError(t, c.Put(ctx, "/app/k", []byte("value")))
	added := p.rotated(t)
	generation := p.Info().Generation
	refused := func(opts ...etcd.RetireOption) {
		t.Helper()
		err := p.RetireKey(ctx, old, opts...)
		require.ErrorIs(t, err, etcd.ErrKeyInUse)
		require.False(t, etcd.MaybeApplied(err))
		require.Equal(t, generation, p.Info().Generation)
		require.Contains(t, p.Keyring().IDs(), old)
	}
	refused() // the promotion is too young
	refused(etcd.WithRetireAge(time.Hour), etcd.WithoutProof())
	refused(etcd.WithRetireAge(0)) // a value is left
	refused(etcd.WithRetireAge(0), etcd.WithProof(c))
	refused(etcd.WithRetireAge(0), etcd.WithProof(c, "/other/", "/app/"))
	for _, opt := range []etcd.RetireOption{nil, etcd.WithRetireAge(-1), etcd.WithProof(nil)} {
		require.ErrorIs(t, p.RetireKey(ctx, old, opt), etcd.ErrInvalidArgument)
	}
	require.ErrorIs(t, p.RetireKey(ctx, added, etcd.WithRetireAge(0)), etcd.ErrInvalidArgument)

	_, err := c.Reencrypt(ctx, "")
	require.NoError(t, err)
	refused()
	require.NoError(t, p.RetireKey(ctx, old, etcd.WithRetireAge(0)))
	require.Equal(t, generation+1, p.Info().Generation)
	require.NoError(t, p.RetireKey(ctx, old, etcd.WithRetireAge(0)), "it is retired already")
	require.Equal(t, generation+1, p.Info().Generation)
	requireValue(t, c, "/app/k", "value")
	require.WithinDuration(t, time.Now(), p.keyOf(t, old).Retired, time.Hour)
	require.WithinDuration(t, time.Now(), p.keyOf(t, added).Promoted, time.Hour)

	// Another process may be about to promote a key that was added.
	another, err := p.AddKey(ctx)
	require.NoError(t, err)
	require.ErrorIs(t, p.RetireKey(ctx, another), etcd.ErrKeyInUse)
	require.NoError(t, p.RetireKey(ctx, another, etcd.WithRetireAge(0)))
	// Whoever knows better may say so.
	older := added
	require.NoError(t, c.Put(ctx, "/app/k", []byte("given up")))
	p.rotated(t)
	require.NoError(t, p.RetireKey(ctx, older, etcd.WithRetireAge(0), etcd.WithoutProof()))
	_, err = c.Get(ctx, "/app/k")
	require.ErrorIs(t, err, etcd.ErrUnknownKey)
	require.ErrorContains(t, err, "retired")
}

func TestRetiredKeyIsKeptAndCanComeBack(t *testing.T) {
	t.Parallel()
	srv := server(t)
	ctx := t.Context()
	p := created(t, srv)
	c, old := p.values(t), p.primary(t)
	require.NoError(t, c.Put(ctx, "/k", []byte("value")))
	p.rotated(t)
	blind := []etcd.RetireOption{etcd.WithRetireAge(0), etcd.WithoutProof()}
	require.ErrorIs(t, p.DeleteKey(ctx, old, blind...), etcd.ErrInvalidArgument, "it is not retired")
	require.NoError(t, p.RetireKey(ctx, old, blind...))
	_, err := c.Get(ctx, "/k")
	require.ErrorIs(t, err, etcd.ErrUnknownKey)
	require.ErrorIs(t, p.Promote(ctx, old), etcd.ErrInvalidArgument)

	// It opens values for a process that asks for that.
	archive := newProcess(t, srv.Endpoint())
	archive.StoredKeyring, err = etcd.OpenKeyring(ctx, archive.client, ringKey, archive.outer, etcd.WithRetiredKeys())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, archive.Close()) })
	requireValue(t, archive.values(t), "/k", "value")

	require.NoError(t, p.ReinstateKey(ctx, old))
	require.NoError(t, p.ReinstateKey(ctx, old))
	require.ErrorIs(t, p.ReinstateKey(ctx, etcd.KeyID{1}), etcd.ErrUnknownKey)
	requireValue(t, c, "/k", "value")
	require.Zero(t, p.keyOf(t, old).Retired)

	require.NoError(t, p.RetireKey(ctx, old, blind...))
	require.ErrorIs(t, p.DeleteKey(ctx, old, etcd.WithRetireAge(0)), etcd.ErrKeyInUse, "a value is left")
	require.ErrorIs(t, p.DeleteKey(ctx, old), etcd.ErrKeyInUse)
	require.NoError(t, p.DeleteKey(ctx, old, blind...))
	require.ErrorIs(t, p.ReinstateKey(ctx, old), etcd.ErrUnknownKey)
	require.ErrorIs(t, p.DeleteKey(ctx, old, blind...), etcd.ErrUnknownKey)
	require.Len(t, p.Info().Keys, 1)
}

// A process that lags behind the promotion still writes with the older key.
func TestProofFindsWhatALaggingProcessWrites(t *testing.T) {
	t.Parallel()
	srv, muted, _ := mutedServer(t)
	ctx := t.Context()
	leader, lagging := created(t, srv), opened(t, srv.Endpoint())
	old := leader.primary(t)
	muted.Store(true)
	leader.rotated(t)
	c := leader.values(t)
	report, err := c.Reencrypt(ctx, "")
	require.NoError(t, err)
	require.Zero(t, report.Stale)
	require.NoError(t, lagging.values(t).Put(ctx, "/k", []byte("lagging")))
	require.ErrorIs(t, leader.RetireKey(ctx, old, etcd.WithRetireAge(0)), etcd.ErrKeyInUse)
	requireValue(t, c, "/k", "lagging")
}
