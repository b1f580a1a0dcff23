package snippets

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestGuidesShowCodeThatRuns(t *testing.T) {
	t.Parallel()
	var bodies strings.Builder
	for _, body := range functionBodies(t) {
		bodies.WriteString(body)
	}
	for _, file := range []string{"encryption.md", "export.md"} {
		guide, err := os.ReadFile(filepath.Join("../../docs", file))
		require.NoError(t, err)
		blocks := regexp.MustCompile("(?ms)^ *```go\n(.*?)\n *```$").FindAllStringSubmatch(string(guide), -1)
		require.NotEmpty(t, blocks)
		require.Len(t, blocks, strings.Count(string(guide), "```go"))
		for _, block := range blocks {
			require.Contains(t, bodies.String(), "\n"+unindented(block[1])+"\n")
		}
	}
}

func keyFromFile(file string) (*etcd.Config, error) {
	key, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	config := etcd.DefaultConfig().WithEncryption(key)
	return config, nil
}

func TestKeyIsTakenFromAFileUnchanged(t *testing.T) {
	t.Parallel()
	key := etcd.GenerateKey()
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, key, 0o600))
	server := etcdtest.New(t)
	config, err := keyFromFile(file)
	require.NoError(t, err)
	writer := connect(t, config.WithEndpoints(server.Endpoints()...))
	reader := connect(t, etcd.DefaultConfig().WithEndpoints(server.Endpoints()...).WithEncryption(key))
	require.NoError(t, writer.Put(t.Context(), "/k", []byte("v")))
	value, err := reader.Get(t.Context(), "/k")
	require.NoError(t, err)
	require.Equal(t, "v", string(value))
}

func passphrase(phrase string, salt []byte) (*etcd.EncryptionKey, error) {
	secret, err := etcd.KeyFromPassphrase(phrase, salt)
	if err != nil {
		return nil, err
	}
	return etcd.NewEncryptionKey(secret)
}

func TestPassphraseGivesTheSameKeyAgain(t *testing.T) {
	t.Parallel()
	salt := []byte("sixteen bytes...")
	one, err := passphrase("correct horse", salt)
	require.NoError(t, err)
	other, err := passphrase("correct horse", salt)
	require.NoError(t, err)
	require.Equal(t, one.ID(), other.ID())
}

func narrowRings(key *etcd.EncryptionKey) (reads, writes *etcd.Keyring, err error) {
	reads, err = etcd.NewKeyring(nil, key)
	if err != nil {
		return nil, nil, err
	}
	writes, err = etcd.NewKeyring(key.EncryptOnly())
	return reads, writes, err
}

func TestNarrowRingsReadOrWrite(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	reads, writes, err := narrowRings(key)
	require.NoError(t, err)
	server := etcdtest.New(t)
	reader := connect(t, etcd.DefaultConfig().WithEndpoints(server.Endpoints()...).WithKeyring(reads))
	writer := connect(t, etcd.DefaultConfig().WithEndpoints(server.Endpoints()...).WithKeyring(writes))
	require.NoError(t, writer.Put(t.Context(), "/k", []byte("v")))
	require.ErrorIs(t, reader.Put(t.Context(), "/k", []byte("v")), etcd.ErrNoPrimaryKey)
	_, err = writer.Get(t.Context(), "/k")
	require.ErrorIs(t, err, etcd.ErrUnknownKey)
	value, err := reader.Get(t.Context(), "/k")
	require.NoError(t, err)
	require.Equal(t, "v", string(value))
}

// vault stands for where keys come from.
type vault struct {
	secrets func(ctx context.Context, name string) ([]byte, error)
}

func (v vault) EncryptionKey(ctx context.Context, id etcd.KeyID) (*etcd.EncryptionKey, error) {
	secret, err := v.secrets(ctx, "etcd-keys/"+id.Hex())
	if err != nil {
		return nil, err
	}
	return etcd.NewEncryptionKey(secret)
}

func withProvider(key []byte, v vault) *etcd.Config {
	config := etcd.DefaultConfig().WithEncryption(key).WithKeyProvider(v)
	return config
}

func TestProviderSuppliesTheKeyOfAValue(t *testing.T) {
	t.Parallel()
	server := etcdtest.New(t)
	secret := etcd.GenerateKey()
	writer := connect(t, etcd.DefaultConfig().WithEndpoints(server.Endpoints()...).WithEncryption(secret))
	require.NoError(t, writer.Put(t.Context(), "/k", []byte("v")))
	id, err := etcd.NewEncryptionKey(secret)
	require.NoError(t, err)
	v := vault{secrets: func(_ context.Context, name string) ([]byte, error) {
		require.Equal(t, "etcd-keys/"+id.ID().Hex(), name)
		return secret, nil
	}}
	reader := connect(t, withProvider(etcd.GenerateKey(), v).WithEndpoints(server.Endpoints()...))
	value, err := reader.Get(t.Context(), "/k")
	require.NoError(t, err)
	require.Equal(t, "v", string(value))
}
