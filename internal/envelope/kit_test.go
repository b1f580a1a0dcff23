package envelope_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// bg is for calls that nothing has to end.
var bg = context.Background()

const readmeKey = "32-byte-encryption-key-here!!!"

// gcmAEAD is an external AEAD as a keyset library would bring it: nonce ‖ ciphertext ‖ tag.
type gcmAEAD struct{ aead cipher.AEAD }

func newGCMAEAD(key []byte) gcmAEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return gcmAEAD{aead}
}

func (a gcmAEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return a.aead.Seal(nil, nil, plaintext, associatedData), nil
}

func (a gcmAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	if len(ciphertext) < 28 {
		return nil, errors.New("too short")
	}
	return a.aead.Open(nil, nil, ciphertext, associatedData)
}

var externalID = envelope.KeyID{0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// keysBySuite is a key for each suite that encrypts. The first two share an id.
func keysBySuite(tb testing.TB) map[envelope.Suite]*envelope.Key {
	tb.Helper()
	k := newKey(tb, readmeKey)
	external, err := envelope.NewExternalKey(externalID, newGCMAEAD(bytes.Repeat([]byte{7}, 32)))
	require.NoError(tb, err)
	return map[envelope.Suite]*envelope.Key{
		envelope.XAES256GCM:   k,
		envelope.AES256GCM:    k.WithSuite(envelope.AES256GCM),
		envelope.ExternalAEAD: external,
	}
}

// fullRing opens values of every suite of keysBySuite.
func fullRing(tb testing.TB) *envelope.Ring {
	tb.Helper()
	keys := keysBySuite(tb)
	return newRing(tb, keys[envelope.XAES256GCM], keys[envelope.ExternalAEAD])
}

func newKey(tb testing.TB, material string) *envelope.Key {
	tb.Helper()
	k, err := envelope.NewKey([]byte(material))
	require.NoError(tb, err)
	return k
}

func newRing(tb testing.TB, primary *envelope.Key, others ...*envelope.Key) *envelope.Ring {
	tb.Helper()
	r, err := envelope.NewRing(primary, others...)
	require.NoError(tb, err)
	return r
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(tb, err)
	return b
}

// text compresses well, dense not at all.
func text(n int) []byte {
	return bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog\n"), n/44+1)[:n]
}

func dense(n int) []byte {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		panic(err)
	}
	out := make([]byte, n)
	cipher.NewCTR(block, make([]byte, 16)).XORKeyStream(out, out)
	return out
}
