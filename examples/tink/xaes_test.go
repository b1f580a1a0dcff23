package main

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/blueprint-go/etcd"
)

const headerSize = 24

// derive is the format's key derivation, made here without the library's code.
func derive(t *testing.T, secret []byte, info string, size int) []byte {
	t.Helper()
	out, err := hkdf.Key(sha256.New, secret, []byte("etcd-value-encryption/v1"), info, size)
	require.NoError(t, err)
	return out
}

// rawXAES is Tink's X-AES-GCM under key, without a prefix and with 12 bytes of salt.
func rawXAES(t *testing.T, key []byte) tink.AEAD {
	t.Helper()
	parameters, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, 12)
	require.NoError(t, err)
	tinkKey, err := xaesgcm.NewKey(secretdata.NewBytesFromData(key, insecuresecretdataaccess.Token{}), 0, parameters)
	require.NoError(t, err)
	keys := keyset.NewManager()
	id, err := keys.AddKey(tinkKey)
	require.NoError(t, err)
	require.NoError(t, keys.SetPrimary(id))
	handle, err := keys.Handle()
	require.NoError(t, err)
	primitive, err := aead.New(handle)
	require.NoError(t, err)
	return primitive
}

func associatedData(header []byte, context, etcdKey string) []byte {
	ad := binary.BigEndian.AppendUint32(slices.Clone(header), uint32(len(context)))
	return append(append(ad, context...), etcdKey...)
}

// values are an empty one, a short one, and one of many blocks.
var values = [][]byte{{}, []byte("secret"), bytes.Repeat([]byte("0123456789abcdef"), 1000)}

func TestTinkOpensTheBodiesOfSuite02(t *testing.T) {
	t.Parallel()
	secret := etcd.GenerateKey()
	client := connect(t, serve(t).WithEncryption(secret).WithNamespace("ns").WithAssociatedContext([]byte("prod")))
	tinkAEAD := rawXAES(t, derive(t, secret, "XAES-256-GCM", 32))
	for i, value := range values {
		key := fmt.Sprint("/k", i)
		require.NoError(t, client.Put(t.Context(), key, value))
		sealed := stored(t, client, "ns"+key)
		ad := associatedData(sealed[:headerSize], "prod", "ns"+key)
		got, err := tinkAEAD.Decrypt(sealed[headerSize:], ad)
		require.NoError(t, err)
		require.True(t, bytes.Equal(value, got))

		_, err = rawXAES(t, etcd.GenerateKey()).Decrypt(sealed[headerSize:], ad)
		require.Error(t, err)
	}
}

func TestClientOpensWhatTinkSealed(t *testing.T) {
	t.Parallel()
	secret := etcd.GenerateKey()
	client := connect(t, serve(t).WithEncryption(secret))
	header := append([]byte("\xFFecv\x01\x02\x00\x00"), derive(t, secret, "key-id", 16)...)
	tinkAEAD := rawXAES(t, derive(t, secret, "XAES-256-GCM", 32))
	for i, value := range values {
		key := fmt.Sprint("/k", i)
		body, err := tinkAEAD.Encrypt(value, associatedData(header, "", key))
		require.NoError(t, err)
		_, err = client.Raw().Put(t.Context(), key, string(header)+string(body))
		require.NoError(t, err)
		got, err := client.Get(t.Context(), key)
		require.NoError(t, err)
		require.True(t, bytes.Equal(value, got))
	}
}
