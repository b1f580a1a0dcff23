package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"go.uber.org/goleak"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve returns the configuration of clients of a server of its own.
func serve(t *testing.T) *etcd.Config {
	t.Helper()
	return etcd.DefaultConfig().WithEndpoints(etcdtest.New(t).Endpoints()...)
}

func connect(t *testing.T, cfg *etcd.Config) *etcd.Client {
	t.Helper()
	client, err := etcd.NewClient(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// stored returns what the server holds under key.
func stored(t *testing.T, client *etcd.Client, key string) []byte {
	t.Helper()
	resp, err := client.Raw().Get(t.Context(), key)
	require.NoError(t, err)
	require.Len(t, resp.Kvs, 1)
	return resp.Kvs[0].Value
}

func TestExampleRuns(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), serve(t), &out))
	require.Equal(t, "read with the new key alone: correct horse\n", out.String())
}

func TestKeysetFitsWithAEAD(t *testing.T) {
	t.Parallel()
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	keysetAEAD, err := aead.New(handle)
	require.NoError(t, err)
	id := etcd.KeyID([]byte("the keyset's ID."))
	cfg := serve(t)
	client := connect(t, cfg.WithAEAD(id, keysetAEAD))

	require.NoError(t, client.Put(t.Context(), "/k", []byte("secret")))
	value, err := client.Get(t.Context(), "/k")
	require.NoError(t, err)
	require.Equal(t, "secret", string(value))
	require.Equal(t, "\xFFecv\x01\x80\x00\x00"+string(id[:]), string(stored(t, client, "/k")[:24]))

	_, err = client.Raw().Put(t.Context(), "/moved", string(stored(t, client, "/k")))
	require.NoError(t, err)
	_, err = client.Get(t.Context(), "/moved")
	require.ErrorIs(t, err, etcd.ErrDecrypt)
}

func TestRotationLeavesNothingUnderTheOldKey(t *testing.T) {
	t.Parallel()
	keys := keyset.NewManager()
	old, err := keys.Add(aead.XAES256GCM192BitNonceKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, keys.SetPrimary(old))
	ring, err := newRing(keys)
	require.NoError(t, err)
	client := connect(t, serve(t).WithKeyring(ring))
	require.NoError(t, client.Put(t.Context(), "/k", []byte("secret")))
	before := stored(t, client, "/k")

	require.NoError(t, rotate(t.Context(), client, keys, ring))

	primary, _ := ring.Primary()
	require.NotEqual(t, keyID(old), primary)
	require.Equal(t, []etcd.KeyID{primary}, ring.IDs())
	value, err := client.Get(t.Context(), "/k")
	require.NoError(t, err)
	require.Equal(t, "secret", string(value))
	_, err = client.Raw().Put(t.Context(), "/k", string(before))
	require.NoError(t, err)
	_, err = client.Get(t.Context(), "/k")
	require.ErrorIs(t, err, etcd.ErrUnknownKey)
}
