package integration

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestLargeValuesAreStoredSmaller(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 8192)
	_, err := rand.Read(noise)
	require.NoError(t, err)
	text := strings.Repeat("configuration = value\n", 1000)
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			c := client(t, m.set(config(server(t))).WithNamespace(""))
			key := prefix(t) + "key"
			overhead := 0
			if c.IsEncrypted() {
				overhead = 64
			}
			compresses := m.name == "compressed" || m.name == "all"
			for name, tc := range map[string]struct {
				value   string
				smaller bool
			}{
				"text":           {text, compresses},
				"at the minimum": {text[:1024], compresses},
				"too small":      {text[:1023], false},
				"too dense":      {string(noise), false},
				"empty":          {"", false},
			} {
				require.NoError(t, c.Put(t.Context(), key, []byte(tc.value)))
				stored := len(storedBytes(t, c, key))
				if tc.smaller {
					require.Less(t, stored, len(tc.value)/2, name)
				} else {
					require.Equal(t, len(tc.value)+overhead, stored, name)
				}
				value, err := c.Get(t.Context(), key)
				require.NoError(t, err)
				require.Equal(t, tc.value, string(value), name)
			}
		})
	}
}

// Neither a value that looks like one of the format nor one that was stored as
// such by the user is taken for something else.
func TestValueThatBeginsWithTheMagicComesBack(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, key := t.Context(), prefix(t)+"key"
		for _, value := range []string{
			magic, magic + "\x01\x00\x00\x00", magic + "\x01\x00\x01\x00\x00\x00\x00\x01",
			magic + "\x01\x02\x00\x00" + strings.Repeat("x", 80), magic + strings.Repeat("y", 5000), magic[:3],
		} {
			require.NoError(t, c.Put(ctx, key, []byte(value)))
			for name, path := range readPaths {
				if !path.single {
					continue
				}
				got, err := path.read(ctx, c, key, key)
				require.NoError(t, err, "%q through %s", value, name)
				require.Equal(t, map[string]string{key: value}, got, name)
			}
			swapped, err := c.CompareAndSwap(ctx, key, []byte(value), []byte(value+"!"))
			require.NoError(t, err)
			require.True(t, swapped)
			require.NoError(t, c.Update(ctx, key, func(old []byte) ([]byte, error) {
				return []byte(strings.TrimSuffix(string(old), "!")), nil
			}))
			got, err := c.Get(ctx, key)
			require.NoError(t, err)
			require.Equal(t, value, string(got))
		}
	})
}

func TestReaderOfCompressedValues(t *testing.T) {
	t.Parallel()
	srv := server(t)
	key, value := prefix(t), strings.Repeat("value ", 1000)
	writer := client(t, config(srv).WithCompression(1024))
	require.NoError(t, writer.Put(t.Context(), key, []byte(value)))

	// Its own minimum doesn't matter to one that compresses.
	got, err := client(t, config(srv).WithCompression(100_000)).Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, value, string(got))
	// One that does neither returns what is stored.
	plain := client(t, config(srv))
	got, err = plain.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, storedBytes(t, plain, key), string(got))

	// Damage is found, and no memory is allocated for what a length claims.
	stored := storedBytes(t, writer, key)
	for bad, want := range map[string]error{
		stored[:len(stored)-1]:                    etcd.ErrCorrupt,
		stored[:8]:                                etcd.ErrCorrupt,
		stored[:8] + "\xff\xff\xff\xff" + "rest":  etcd.ErrValueTooLarge,
		stored[:8] + "\x00\x00\x00\x01" + "nope":  etcd.ErrCorrupt,
		magic + "\x01\x00\x02\x00" + "flag":       etcd.ErrUnsupportedFormat,
		magic + "\x01\x7f\x00\x00" + "suite":      etcd.ErrUnsupportedFormat,
		magic + "\x07\x00\x00\x00" + "later":      etcd.ErrUnsupportedFormat,
		stored + "something behind the one frame": etcd.ErrCorrupt,
	} {
		plant(t, writer, key, bad)
		_, err := writer.Get(t.Context(), key)
		requireUndecodable(t, err, key, want, bad[:8])
	}

	// With encryption, compression is found by the value alone.
	both := client(t, config(srv).WithEncryption(testKey).WithCompression(1024))
	require.NoError(t, both.Put(t.Context(), key, []byte(value)))
	got, err = client(t, config(srv).WithEncryption(testKey)).Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, value, string(got))
}
