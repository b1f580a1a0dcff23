package integration

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// keyNumber returns one of many keys.
func keyNumber(t testing.TB, n int) *etcd.EncryptionKey {
	t.Helper()
	key, err := etcd.NewEncryptionKey(fmt.Appendf(nil, "key number %010d", n))
	require.NoError(t, err)
	return key
}

// ringOf returns a ring whose primary is the first key.
func ringOf(t testing.TB, keys ...*etcd.EncryptionKey) *etcd.Keyring {
	t.Helper()
	ring, err := etcd.NewKeyring(keys[0], keys[1:]...)
	require.NoError(t, err)
	return ring
}

// sealer returns AES-256-GCM that puts its nonce before the ciphertext. It is to
// be had where only FIPS 140-3 approved services may run, too.
func sealer(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

// legacyKey is a key of the Blueprint provider.
var legacyKey = []byte("a key of the Blueprint provider")

// legacyValue returns what that provider stores for a value.
func legacyValue(value string) string {
	key := sha256.Sum256(legacyKey)
	return string(sealer(key[:]).Seal(nil, nil, []byte(value), nil))
}

// testAEAD is an AEAD as an application brings it: a key that stays elsewhere. It
// counts its calls, and fails when it is told to.
type testAEAD struct {
	gcm                cipher.AEAD
	encrypts, decrypts atomic.Int64
	down               atomic.Bool
}

func newTestAEAD(key string) *testAEAD {
	hashed := sha256.Sum256([]byte(key))
	return &testAEAD{gcm: sealer(hashed[:])}
}

var errAEADDown = errors.New("the service is down")

func (a *testAEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	a.encrypts.Add(1)
	if a.down.Load() {
		return nil, errAEADDown
	}
	return a.gcm.Seal(nil, nil, plaintext, associatedData), nil
}

func (a *testAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	a.decrypts.Add(1)
	if a.down.Load() {
		return nil, errAEADDown
	}
	return a.gcm.Open(nil, nil, ciphertext, associatedData)
}
