package envelope_test

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// The two vectors of https://c2sp.org/XAES-256-GCM: in the first the CMAC subkey is a plain shift, in the second the
// polynomial is reduced.
func TestXAESMeetsItsPublishedVectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		key                byte
		subkey, ad, sealed string
	}{
		{
			0x01, "c8612c9ed53fe43e8e005b828a1631a0bbcb6ab2f46514ec4f439fcfd0fa969b",
			"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271",
		},
		{
			0x03, "e9c621d4cdd9b11b00a6427ad7e559aeedd66b3857646677748f8ca796cb3fd8",
			"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
		},
	} {
		key := bytes.Repeat([]byte{v.key}, 32)
		subkey, err := envelope.Subkey(key, []byte(exampleNonce))
		require.NoError(t, err)
		require.Equal(t, v.subkey, hex.EncodeToString(subkey))

		sealed := gcmSeal(subkey, []byte(exampleNonce)[envelope.SaltSize:], []byte("XAES-256-GCM"), []byte(v.ad))
		require.Equal(t, v.sealed, hex.EncodeToString(sealed))

		plaintext, err := envelope.OpenXAES(key, slices.Concat([]byte(exampleNonce), sealed), []byte(v.ad))
		require.NoError(t, err)
		require.Equal(t, "XAES-256-GCM", string(plaintext))
	}
}

// The accumulated test of the same page: keys, nonces and messages from one SHAKE-128 stream, all ciphertexts into
// another. Each message is opened again by what opens values of suite 02.
func TestXAESMeetsThePublishedAccumulatorOf10000Rounds(t *testing.T) {
	t.Parallel()
	const want = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
	random, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		b := make([]byte, n)
		_, err := random.Read(b)
		require.NoError(t, err)
		return b
	}
	for range 10_000 {
		key, nonce := read(32), read(24)
		plaintext := read(int(read(1)[0]))
		ad := read(int(read(1)[0]))

		subkey, err := envelope.Subkey(key, nonce)
		require.NoError(t, err)
		sealed := gcmSeal(subkey, nonce[envelope.SaltSize:], plaintext, ad)
		_, err = sum.Write(sealed)
		require.NoError(t, err)

		opened, err := envelope.OpenXAES(key, slices.Concat(nonce, sealed), ad)
		require.NoError(t, err)
		if !bytes.Equal(plaintext, opened) {
			t.Fatalf("opened %x, want %x", opened, plaintext)
		}
	}
	got := make([]byte, 32)
	_, err := sum.Read(got)
	require.NoError(t, err)
	require.Equal(t, want, hex.EncodeToString(got))
}
