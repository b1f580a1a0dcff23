package etcd

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// readable collects every string and every run of numbers that reflection finds from v
// on, through unexported fields too: what a printer that looks past methods can show.
func readable(v reflect.Value, seen map[any]bool, found *[][]byte) {
	switch v.Kind() {
	case reflect.String:
		*found = append(*found, []byte(v.String()))
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if v.IsNil() {
			return
		}
		if v.Kind() != reflect.Slice {
			at := struct {
				p uintptr
				t reflect.Type
			}{v.Pointer(), v.Type()}
			if seen[at] {
				return
			}
			seen[at] = true
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			readable(v.Elem(), seen, found)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			readable(v.Field(i), seen, found)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			readable(it.Key(), seen, found)
			readable(it.Value(), seen, found)
		}
	case reflect.Slice, reflect.Array:
		var numbers []byte
		for i := range v.Len() {
			switch e := v.Index(i); e.Kind() {
			case reflect.Uint8:
				numbers = append(numbers, byte(e.Uint()))
			case reflect.Uint32: // the round keys of AES
				numbers = binary.BigEndian.AppendUint32(numbers, uint32(e.Uint()))
			default:
				readable(e, seen, found)
			}
		}
		*found = append(*found, numbers)
	}
}

func requireUnreadable(t *testing.T, v any, what string, secrets ...[]byte) {
	t.Helper()
	var found [][]byte
	readable(reflect.ValueOf(v), map[any]bool{}, &found)
	require.NotEmpty(t, found, what)
	for _, secret := range secrets {
		for _, f := range found {
			require.False(t, bytes.Contains(f, secret), "%s shows %q", what, secret)
		}
	}
}

func TestNoPrinterReachesASettersSecret(t *testing.T) {
	t.Parallel()
	secret, legacy := []byte("hunter2: an encryption key"), []byte("hunter2: a legacy key")
	hashed := sha256.Sum256(legacy)
	all := [][]byte{[]byte("hunter2"), hashed[:]}
	c := DefaultConfig().WithAuth("alice", "hunter2-password").WithToken("hunter2-token").
		WithEncryption(secret).WithLegacyKey(legacy, "")
	requireUnreadable(t, c, "config", all...)
	requireUnreadable(t, *c, "config by value", all...)
	requireUnreadable(t, struct{ c *Config }{c}, "config inside", all...)

	revealed := c.revealed()
	var found [][]byte
	readable(reflect.ValueOf(revealed), map[any]bool{}, &found)
	require.Contains(t, found, []byte("hunter2-password"), "the test would see one")
	require.Contains(t, found, secret)

	c.WithToken("")
	r, err := c.resolved()
	require.NoError(t, err)
	require.Equal(t, "hunter2-password", r.Password)
	codec, err := newCodec(r)
	require.NoError(t, err)
	defer codec.close()
	r.forgetSecrets()
	requireUnreadable(t, r, "a client's config", all...)
	requireUnreadable(t, codec, "a client's codec", all...)
}

func TestFieldThatIsSetCountsBeforeItsSetter(t *testing.T) {
	t.Parallel()
	c := new(Config).WithAuth("u", "old").WithEncryption([]byte("an old key of enough bytes")).WithLegacyKey([]byte("old"), "").WithToken("old")
	copied := *c
	c.Password, c.Token, c.EncryptionKey, c.LegacyKey = "new", "new", []byte("new"), []byte("new")
	r := c.revealed()
	require.Equal(t, []string{"new", "new", "new", "new"}, []string{r.Password, r.Token, string(r.EncryptionKey), string(r.LegacyKey)})
	c.WithAuth("u", "newer").WithToken("newer").WithEncryption([]byte("newer")).WithLegacyKey([]byte("newer"), "")
	r = c.revealed()
	require.Equal(t, []string{"newer", "newer", "newer", "newer"}, []string{r.Password, r.Token, string(r.EncryptionKey), string(r.LegacyKey)})
	require.Equal(t, "old", copied.revealed().Password, "a copy has its own")
}

func TestNoPrinterReachesAClientsToken(t *testing.T) {
	t.Parallel()
	c, err := NewClient(DefaultConfig().WithEndpoints("127.0.0.1:1").WithLazyConnect().WithToken("hunter2-token"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	requireUnreadable(t, c.rpc.Auth, "an authenticator", []byte("hunter2"))
	// What a stream keeps, to say which token was refused.
	stream, renewals := &watchStream{token: c.rpc.Auth.Current()}, &renewalStream{token: c.rpc.Auth.Current()}
	requireUnreadable(t, struct {
		s    *watchStream
		r    *renewalStream
		name string
	}{stream, renewals, "name"}, "streams", []byte("hunter2"))
	metadata, err := c.rpc.Auth.GetRequestMetadata(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]string{"token": "hunter2-token"}, metadata, "requests have it")
}
