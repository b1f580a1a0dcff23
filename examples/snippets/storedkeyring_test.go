package snippets

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func storedKeyring(ctx context.Context, plain *etcd.Client, outer etcd.AEAD) (*etcd.StoredKeyring, *etcd.Config, error) {
	ring, err := etcd.CreateKeyring(ctx, plain, "/keyrings/app", outer) // once; later OpenKeyring
	if err != nil {
		return nil, nil, err
	}
	config := etcd.DefaultConfig().WithKeyring(ring.Keyring()).WithUnencryptedPrefixes("/keyrings/")
	return ring, config, nil
}

func rotateStored(ctx context.Context, ring *etcd.StoredKeyring, client *etcd.Client, everyProcessHas func(etcd.KeyID) error) error {
	added, err := ring.AddKey(ctx)
	if err != nil {
		return err
	}
	if err := everyProcessHas(added); err != nil { // in its Keyring().IDs()
		return err
	}
	if err := ring.Promote(ctx, added); err != nil {
		return err
	}
	if err := everyProcessHas(added); err != nil { // as its Keyring().Primary()
		return err
	}
	return rewrite(ctx, client, "")
}

func retireStored(ctx context.Context, ring *etcd.StoredKeyring, client *etcd.Client, old etcd.KeyID) error {
	return ring.RetireKey(ctx, old, etcd.WithProof(client))
}

// outerKey is an outer key without a key management service: that of a client
// would be Tink's, or a call of the service's API.
type outerKey struct{ etcd.AEAD }

func (outerKey) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return append([]byte(fmt.Sprintf("%x", associatedData)), plaintext...), nil
}

func (outerKey) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	plaintext, ok := strings.CutPrefix(string(ciphertext), fmt.Sprintf("%x", associatedData))
	if !ok {
		return nil, errors.New("does not open")
	}
	return []byte(plaintext), nil
}

func TestStoredKeyringRotates(t *testing.T) {
	t.Parallel()
	server := etcdtest.New(t)
	plain := connect(t, etcd.DefaultConfig().WithEndpoints(server.Endpoints()...))
	ring, config, err := storedKeyring(t.Context(), plain, outerKey{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ring.Close()) })
	other, err := etcd.OpenKeyring(t.Context(), plain, "/keyrings/app", outerKey{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	client := connect(t, config.WithEndpoints(server.Endpoints()...))
	require.NoError(t, client.Put(t.Context(), "/k", []byte("v")))
	old, _ := ring.Keyring().Primary()
	asked := 0
	require.NoError(t, rotateStored(t.Context(), ring, client, func(id etcd.KeyID) error {
		asked++
		require.Eventually(t, func() bool {
			primary, _ := other.Keyring().Primary()
			return asked == 1 && len(other.Keyring().IDs()) == 2 || primary == id
		}, 10*time.Second, time.Millisecond)
		return nil
	}))
	value, err := client.Get(t.Context(), "/k")
	require.NoError(t, err)
	require.Equal(t, "v", string(value))
	// It is too early: the promotion is not a quarter of an hour old.
	require.ErrorIs(t, retireStored(t.Context(), ring, client, old), etcd.ErrKeyInUse)
	require.NoError(t, ring.RetireKey(t.Context(), old, etcd.WithProof(client), etcd.WithRetireAge(0)))
	require.NotContains(t, ring.Keyring().IDs(), old)
}
