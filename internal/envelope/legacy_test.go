package envelope_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// legacyValue is the value of the Blueprint provider in the format's
// specification: exampleText under readmeKey.
const legacyValue = "190119c00000000000000000434c229a6ea39df7b3a954e004cb583f5811f319d9b373c48a23"

func newLegacyReader(t *testing.T, key string) *envelope.LegacyReader {
	t.Helper()
	r, err := envelope.NewLegacyReader([]byte(key))
	require.NoError(t, err)
	return r
}

func TestLegacyReaderOpensTheExample(t *testing.T) {
	t.Parallel()
	got, err := newLegacyReader(t, readmeKey).Open(unhex(t, legacyValue))
	require.NoError(t, err)
	require.Equal(t, exampleText, string(got))
}

func TestLegacyReaderRefusesAnyDamage(t *testing.T) {
	t.Parallel()
	r, stored := newLegacyReader(t, readmeKey), unhex(t, legacyValue)
	for at := range stored {
		for bit := range 8 {
			damaged := slices.Clone(stored)
			damaged[at] ^= 1 << bit
			_, err := r.Open(damaged)
			require.ErrorIs(t, err, envelope.ErrDecrypt, "bit %d of byte %d", bit, at)
		}
	}
	for n := range stored {
		_, err := r.Open(stored[:n])
		require.ErrorIs(t, err, envelope.ErrDecrypt, "cut to %d bytes", n)
		_, err = r.Open(stored[n+1:])
		require.ErrorIs(t, err, envelope.ErrDecrypt, "without the first %d bytes", n+1)
	}
	_, err := r.Open(append(stored, 0))
	require.ErrorIs(t, err, envelope.ErrDecrypt)
	_, err = newLegacyReader(t, readmeKey+"!").Open(unhex(t, legacyValue))
	require.ErrorIs(t, err, envelope.ErrDecrypt, "another key")
}

// It is asked about values of any kind, since its own bear no mark.
func TestLegacyReaderTakesValuesOfAnyLength(t *testing.T) {
	t.Parallel()
	r := newLegacyReader(t, readmeKey)
	for n := range 100 {
		for _, fill := range []byte{0, 'x', 0xff} {
			_, err := r.Open(bytes.Repeat([]byte{fill}, n))
			require.ErrorIs(t, err, envelope.ErrDecrypt, "%d bytes of %x", n, fill)
		}
	}
	_, err := r.Open(nil)
	require.ErrorIs(t, err, envelope.ErrDecrypt)
}

func TestLegacyReaderLeavesTheStoredValueUnchanged(t *testing.T) {
	t.Parallel()
	r, stored := newLegacyReader(t, readmeKey), unhex(t, legacyValue)
	got, err := r.Open(stored)
	require.NoError(t, err)
	clear(got)
	require.Equal(t, unhex(t, legacyValue), stored)

	plain := []byte("a plain value that is long enough to be a legacy one")
	before := slices.Clone(plain)
	_, err = r.Open(plain)
	require.Error(t, err)
	require.Equal(t, before, plain)
}

func TestLegacyKeyHasAnyLengthButNone(t *testing.T) {
	t.Parallel()
	for _, key := range [][]byte{nil, {}} {
		_, err := envelope.NewLegacyReader(key)
		require.ErrorIs(t, err, envelope.ErrInvalidKey)
	}
	for _, n := range []int{1, 15, 5000} {
		newLegacyReader(t, string(make([]byte, n)))
	}
}
