package etcd

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func clientOfNamespace(prefix string) *Client {
	return &Client{conn: &conn{namespace: namespace{prefix: prefix, maxKey: DefaultMaxKeyBytes}}}
}

// FuzzPrefixRange holds that a range of keys as the server understands it, by the
// order of bytes, is the set of keys with the prefix, within every namespace.
func FuzzPrefixRange(f *testing.F) {
	seeds := []string{"", "\x00", "a", "a\x00", "ab", "a\xfe", "a\xff", "a\xff\xff", "\xfe\xff", "\xff", "\xff\xff", "ä", "\xc3\x28", "/k/"}
	for _, namespace := range []string{"", "ns/", "\xff"} {
		for _, prefix := range seeds {
			for _, key := range seeds {
				f.Add(namespace, prefix, key)
			}
		}
	}
	f.Fuzz(func(t *testing.T, namespace, prefix, key string) {
		if len(namespace)+len(prefix) > DefaultMaxKeyBytes {
			return
		}
		c := clientOfNamespace(namespace)
		rng, err := c.prefixRange(prefix)
		require.NoError(t, err)
		all := namespace + prefix
		// The keys at the borders are where it goes wrong.
		for _, stored := range []string{
			key, namespace + key, all + key, all, all + "\x00", all + "\xff",
			string(rng.Start), string(rng.End), string(rng.End) + key,
		} {
			if stored == "" {
				continue // the server has no such key
			}
			require.Equal(t, strings.HasPrefix(stored, all), rng.Contains([]byte(stored)), "%q in %q", stored, all)
			if strings.HasPrefix(stored, namespace) {
				require.Equal(t, stored[len(namespace):], c.visible([]byte(stored)))
			}
		}
	})
}

func TestRangeOfOneKeyContainsThatKeyAlone(t *testing.T) {
	t.Parallel()
	rng, err := clientOfNamespace("").keyOrPrefix("k", false)
	require.NoError(t, err)
	require.True(t, rng.Contains([]byte("k")))
	require.False(t, rng.Contains([]byte("k\x00")))
	require.False(t, rng.Contains([]byte("")))
}
