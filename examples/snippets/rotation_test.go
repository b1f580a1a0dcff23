package snippets

import (
	"context"
	"errors"
	"fmt"
	"log"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// rewrite is the step of every runbook that brings all values under the primary
// key.
func rewrite(ctx context.Context, client *etcd.Client, next string) error {
	for {
		report, err := client.Reencrypt(ctx, "",
			etcd.WithResumeAt(next), // "" at first
			etcd.WithKeysPerSecond(2000),
			etcd.WithReencryptProgress(func(r etcd.ReencryptReport) { log.Printf("next %q, rewritten %d", r.Next, r.Rewritten) }),
		)
		if err != nil {
			return fmt.Errorf("stopped, to be resumed at %q: %w", report.Next, err)
		}
		if len(report.Errors) > 0 {
			return errors.Join(report.Errors...) // nothing to wait for: look at these keys
		}
		if next == "" && report.Stale == 0 {
			return nil
		}
		next = "" // a last pass over everything finds nothing
	}
}

func prove(ctx context.Context, client *etcd.Client, key etcd.KeyID) (int64, error) {
	status, err := client.EncryptionStatus(ctx, "")
	if err != nil {
		return 0, err
	}
	if n := status.ByKey[key] + status.Unencrypted; n != status.Total {
		return 0, fmt.Errorf("%d of %d values are not under %s: %+v", status.Total-n, status.Total, key, status)
	}
	return status.Revision, nil
}

func compact(ctx context.Context, client *etcd.Client, revision int64) error {
	_, err := client.Raw().Compact(ctx, revision)
	return err
}

// rotateSteps are the steps from key a to key b on one instance.
func rotateSteps(ring *etcd.Keyring, a, b *etcd.EncryptionKey) (distribute, promote, retire func() error) {
	distribute = func() error {
		return ring.Replace(a, b)
	}
	promote = func() error {
		return ring.Replace(b, a)
	}
	retire = func() error {
		return ring.Replace(b)
	}
	return distribute, promote, retire
}

func TestRotationRunbookLeavesEveryInstanceAbleToRead(t *testing.T) {
	t.Parallel()
	server := etcdtest.New(t)
	a, b := newKey(t), newKey(t)
	fleet := make([]*etcd.Client, 2)
	rings := make([]*etcd.Keyring, len(fleet))
	for i := range fleet {
		ring, err := etcd.NewKeyring(a)
		require.NoError(t, err)
		rings[i], fleet[i] = ring, connect(t, etcd.DefaultConfig().WithEndpoints(server.Endpoints()...).WithKeyring(ring))
	}
	require.NoError(t, fleet[0].Put(t.Context(), "/old", []byte("v")))
	for step := range 2 {
		for _, ring := range rings {
			distribute, promote, _ := rotateSteps(ring, a, b)
			require.NoError(t, []func() error{distribute, promote}[step]())
			requireEachReadsEach(t, fleet)
		}
	}
	_, err := prove(t.Context(), fleet[0], b.ID())
	require.Error(t, err)
	require.NoError(t, rewrite(t.Context(), fleet[0], ""))
	revision, err := prove(t.Context(), fleet[0], b.ID())
	require.NoError(t, err)
	require.NoError(t, compact(t.Context(), fleet[0], revision))
	for _, ring := range rings {
		_, _, retire := rotateSteps(ring, a, b)
		require.NoError(t, retire())
		requireEachReadsEach(t, fleet)
	}
	value, err := fleet[1].Get(t.Context(), "/old")
	require.NoError(t, err)
	require.Equal(t, "v", string(value))
}

// requireEachReadsEach holds that what any client writes, every client reads.
func requireEachReadsEach(t *testing.T, fleet []*etcd.Client) {
	t.Helper()
	for i, writer := range fleet {
		key, want := fmt.Sprint("/by/", i), fmt.Sprint("by ", i)
		require.NoError(t, writer.Put(t.Context(), key, []byte(want)))
		for _, reader := range fleet {
			value, err := reader.Get(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, want, string(value))
		}
	}
}

func newKey(t *testing.T) *etcd.EncryptionKey {
	t.Helper()
	key, err := etcd.NewEncryptionKey(etcd.GenerateKey())
	require.NoError(t, err)
	return key
}

// fromPlaintext returns the configurations of the steps.
func fromPlaintext(key []byte) []*etcd.Config {
	understand := func() *etcd.Config {
		config := etcd.DefaultConfig().WithEncryption(key).WithPlaintextWrites("")
		return config
	}
	encrypt := func() *etcd.Config {
		config := etcd.DefaultConfig().WithEncryption(key).WithPlaintextReads("")
		return config
	}
	require := func() *etcd.Config {
		config := etcd.DefaultConfig().WithEncryption(key)
		return config
	}
	return []*etcd.Config{understand(), encrypt(), require()}
}

func TestPlaintextMigrationLeavesEveryInstanceAbleToRead(t *testing.T) {
	t.Parallel()
	server := etcdtest.New(t)
	secret := etcd.GenerateKey()
	key, err := etcd.NewEncryptionKey(secret)
	require.NoError(t, err)
	fleet := []*etcd.Client{
		connect(t, etcd.DefaultConfig().WithEndpoints(server.Endpoints()...)),
		connect(t, etcd.DefaultConfig().WithEndpoints(server.Endpoints()...)),
	}
	require.NoError(t, fleet[0].Put(t.Context(), "/old", []byte("v")))
	for step, config := range fromPlaintext(secret) {
		if step == 2 {
			require.NoError(t, rewrite(t.Context(), fleet[0], "/old")) // as if it had been stopped there
			_, err = prove(t.Context(), fleet[0], key.ID())
			require.NoError(t, err)
		}
		for i := range fleet {
			fleet[i] = connect(t, config.WithEndpoints(server.Endpoints()...))
			requireEachReadsEach(t, fleet)
		}
	}
	value, err := fleet[1].Get(t.Context(), "/old")
	require.NoError(t, err)
	require.Equal(t, "v", string(value))
}

func fromProvider(key, providerKey []byte) *etcd.Config {
	config := etcd.DefaultConfig().WithEncryption(key).WithLegacyKey(providerKey, "/app/")
	return config
}

func providerReader(key *etcd.EncryptionKey, providerKey []byte) (*etcd.Config, error) {
	ring, err := etcd.NewKeyring(nil, key) // reads only: the provider can't read what it would write
	if err != nil {
		return nil, err
	}
	config := etcd.DefaultConfig().WithKeyring(ring).WithLegacyKey(providerKey, "/app/")
	return config, nil
}

func TestProviderMigrationReadsOldValuesUntilAllRewritten(t *testing.T) {
	t.Parallel()
	server := etcdtest.New(t)
	// What the provider stores for "hello etcd" under the key of its sample.
	providerKey := []byte("32-byte-encryption-key-here!!!")
	const stored = "\x19\x01\x19\xc0\x00\x00\x00\x00\x00\x00\x00\x00\x43\x4c\x22\x9a\x6e\xa3\x9d\xf7\xb3\xa9" +
		"\x54\xe0\x04\xcb\x58\x3f\x58\x11\xf3\x19\xd9\xb3\x73\xc4\x8a\x23"
	provider := connect(t, etcd.DefaultConfig().WithEndpoints(server.Endpoints()...))
	require.NoError(t, provider.Put(t.Context(), "/app/old", []byte(stored)))

	secret := etcd.GenerateKey()
	key, err := etcd.NewEncryptionKey(secret)
	require.NoError(t, err)
	config, err := providerReader(key, providerKey)
	require.NoError(t, err)
	reader := connect(t, config.WithEndpoints(server.Endpoints()...))
	writer := connect(t, fromProvider(secret, providerKey).WithEndpoints(server.Endpoints()...))
	for _, c := range []*etcd.Client{reader, writer} {
		value, err := c.Get(t.Context(), "/app/old")
		require.NoError(t, err)
		require.Equal(t, "hello etcd", string(value))
	}
	require.NoError(t, rewrite(t.Context(), writer, ""))
	_, err = prove(t.Context(), writer, key.ID())
	require.NoError(t, err)
	for _, c := range []*etcd.Client{reader, connect(t, etcd.DefaultConfig().WithEndpoints(server.Endpoints()...).WithEncryption(secret))} {
		value, err := c.Get(t.Context(), "/app/old")
		require.NoError(t, err)
		require.Equal(t, "hello etcd", string(value))
	}
}
