package etcd

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tree is a type that nests, with numbers that have limits.
type tree struct {
	N    int64
	F    float32
	Text []string
	Any  map[string]any
	Next *tree
}

// Whatever is stored, it is a value that marshals to itself, or an error with its
// key and without its content.
func FuzzStoredValueFitsOrFailsNamingItsKey(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, ``, `{"N":1}`, `{"N":99999999999999999999}`, `{"F":1e39}`, `{"F":NaN}`, `{"N":1.5}`, `{"Text":[null,"\ud800"]}`,
		`{"Any":{"a":[{"b":null}]}}`, `{"Next":{"Next":{"N":2}}}`, `{} {}`, "{\"Text\":[\"\xff\"]}", `{"secret`,
		strings.Repeat(`{"Next":`, 20_000) + `null` + strings.Repeat(`}`, 20_000), strings.Repeat(`[`, 20_000),
	} {
		f.Add([]byte(seed))
	}
	encrypting := &Client{codec: &codec{keyring: &Keyring{}}} // what it reads was decrypted, whatever it is
	trees := NewTyped[tree](encrypting, "p/")
	f.Fuzz(func(t *testing.T, data []byte) {
		kv := KeyValue{Key: "p/name", Value: bytes.Clone(data), ModRevision: 7}
		got, err := trees.unmarshal(kv)
		require.Equal(t, "name", got.Name)
		require.Equal(t, int64(7), got.ModRevision)
		if err != nil {
			var decode *DecodeError
			require.ErrorAs(t, err, &decode)
			require.Equal(t, "p/name", decode.Key)
			require.ErrorIs(t, err, ErrEncoding)
			require.EqualError(t, err, (&DecodeError{Key: "p/name", Err: ErrEncoding}).Error(), "the content is not quoted")
			require.Zero(t, got.Value)
			return
		}
		kv.Value, err = trees.marshal("put", "name", got.Value)
		require.NoError(t, err)
		again, err := trees.unmarshal(kv)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
