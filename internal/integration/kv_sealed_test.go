package integration

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// sealedValues are values that are stored in different ways.
var sealedValues = map[string]string{
	"short": "v", "empty": "", "large": strings.Repeat("large ", 10_000), "like ours": magic + "\x01\x00\x00\x00x",
}

func TestSealedIsWhatAPutStores(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx := t.Context()
		require.NoError(t, c.Put(ctx, "first", nil))
		namespace := strings.TrimSuffix(storedKeys(t, c)[0], "first")
		for name, value := range sealedValues {
			key := "key of " + name
			var sealed []byte
			require.Empty(t, o.during(func() {
				var err error
				sealed, err = c.Seal(ctx, key, []byte(value))
				require.NoError(t, err, name)
			}), "a seal sends nothing")

			// Stored as it is, it reads as the value.
			plant(t, c, namespace+key, string(sealed))
			got, err := c.Get(ctx, key)
			require.NoError(t, err, name)
			require.Equal(t, value, string(got), name)

			// What a put has stored opens, and is as long.
			require.NoError(t, c.Put(ctx, key, []byte(value)))
			stored := storedBytes(t, c, namespace+key)
			require.Len(t, sealed, len(stored), name)
			require.Empty(t, o.during(func() {
				got, err = c.Unseal(ctx, key, []byte(stored))
			}), "an unseal sends nothing")
			require.NoError(t, err, name)
			require.NotNil(t, got, name)
			require.Equal(t, value, string(got), name)
		}
	})
}

func TestSealSharesNothingWithItsCaller(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		for name, value := range sealedValues {
			mine := []byte(value)
			sealed, err := c.Seal(t.Context(), "k", mine)
			require.NoError(t, err)
			clear(mine)
			kept := string(sealed)
			for range 2 {
				got, err := c.Unseal(t.Context(), "k", sealed)
				require.NoError(t, err)
				require.Equal(t, value, string(got), name)
				clear(got)
				require.Equal(t, kept, string(sealed), name)
			}
		}
	})
}

func TestUnsealRefusesWhatReadsRefuse(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	seal := func(key string) string {
		sealed, err := c.Seal(t.Context(), key, []byte(strings.Repeat(secret, 3)))
		require.NoError(t, err)
		return string(sealed)
	}
	for name, bad := range badValues {
		stored := bad.make(seal("here"), seal("elsewhere"))
		got, err := c.Unseal(t.Context(), "here", []byte(stored))
		require.Nil(t, got, name)
		requireUndecodable(t, err, "here", bad.want, name)
		var e *etcd.Error
		require.ErrorAs(t, err, &e, name)
		require.False(t, e.Sent, name)
	}
}

func TestSealedBelongsToItsNamespaceAndPolicy(t *testing.T) {
	t.Parallel()
	srv := server(t)
	encrypted := func() *etcd.Config { return config(srv).WithEncryption(testKey).WithLazyConnect() }
	a, b := client(t, encrypted().WithNamespace("a/")), client(t, encrypted().WithNamespace("b/"))
	sealed, err := a.Seal(t.Context(), "k", []byte(secret))
	require.NoError(t, err)
	require.NotContains(t, string(sealed), secret)
	_, err = b.Unseal(t.Context(), "k", sealed)
	requireUndecodable(t, err, "k", etcd.ErrDecrypt, "another namespace")

	excluded := client(t, encrypted().WithUnencryptedPrefixes("public/"))
	sealed, err = excluded.Seal(t.Context(), "public/k", []byte("plain"))
	require.NoError(t, err)
	require.Equal(t, "plain", string(sealed))
	sealed, err = excluded.Seal(t.Context(), "private/k", []byte("plain"))
	require.NoError(t, err)
	require.NotContains(t, string(sealed), "plain")
}

func TestSealUsesThePrimaryKeyOfTheMoment(t *testing.T) {
	t.Parallel()
	older, newer := keyNumber(t, 1), keyNumber(t, 2)
	ring := ringOf(t, older)
	c := client(t, config(server(t)).WithKeyring(ring))
	before, err := c.Seal(t.Context(), "k", []byte("before"))
	require.NoError(t, err)
	require.NoError(t, ring.Replace(newer, older))
	after, err := c.Seal(t.Context(), "k", []byte("after"))
	require.NoError(t, err)
	require.NoError(t, ring.Replace(newer))

	got, err := c.Unseal(t.Context(), "k", after)
	require.NoError(t, err)
	require.Equal(t, "after", string(got))
	_, err = c.Unseal(t.Context(), "k", before)
	requireUndecodable(t, err, "k", etcd.ErrUnknownKey, "its key was removed")
}
