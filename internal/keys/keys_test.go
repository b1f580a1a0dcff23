package keys_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/keys"
)

func TestPrefixEndOwnsItsBytes(t *testing.T) {
	t.Parallel()
	prefix := []byte("key")
	end := keys.PrefixEnd(prefix)
	require.Equal(t, "kez", string(end))
	require.Equal(t, "key", string(prefix))
	_ = append(end, "more"...)
	require.Equal(t, "key", string(prefix))
	for prefix, want := range map[string]string{"": "\x00", "\xff": "\x00", "\xff\xff": "\x00", "a\xff": "b", "a\xff\xfe": "a\xff\xff", "\x00": "\x01"} {
		require.True(t, bytes.Equal([]byte(want), keys.PrefixEnd([]byte(prefix))), "%q", prefix)
	}
}

func TestRangesHoldTheirKeys(t *testing.T) {
	t.Parallel()
	whole := keys.Range{Start: []byte("b"), End: keys.ToTheEnd}
	require.True(t, whole.Contains([]byte("\xff\xff")))
	require.False(t, whole.Contains([]byte("a")))
	require.False(t, whole.Empty())

	upToD := whole.Before([]byte("d"))
	require.True(t, upToD.Contains([]byte("c\xff")))
	require.False(t, upToD.Contains([]byte("d")))
	require.Equal(t, upToD, upToD.Before([]byte("e")), "it ends before that already")
	require.True(t, keys.Range{Start: []byte("d"), End: []byte("d")}.Empty())

	require.Equal(t, "a\x00", string(keys.After([]byte("a"))))
	require.Equal(t, keys.SpanOf(upToD), keys.SpanOf(keys.Range{Start: []byte("b"), End: []byte("d")}))
}
