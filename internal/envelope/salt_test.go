package envelope_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// nonceOf returns salt and GCM nonce of a value of suite 02.
func nonceOf(stored []byte) [24]byte { return [24]byte(stored[envelope.HeaderSize:]) }

func saltOf(stored []byte) [envelope.SaltSize]byte {
	return [envelope.SaltSize]byte(stored[envelope.HeaderSize:])
}

func TestSaltChangesAfter65536Messages(t *testing.T) {
	t.Parallel()
	require.Equal(t, 65536, envelope.SealsPerSalt)
	c, k := envelope.NewCodec(envelope.Params{}), newKey(t, readmeKey)
	var salts [][envelope.SaltSize]byte
	for range 2*envelope.SealsPerSalt + 1 {
		stored, err := c.Seal(bg, k, "/k", nil)
		require.NoError(t, err)
		salts = append(salts, saltOf(stored))
	}
	first, second := salts[:envelope.SealsPerSalt], salts[envelope.SealsPerSalt:2*envelope.SealsPerSalt]
	require.Len(t, distinct(first), 1)
	require.Len(t, distinct(second), 1)
	require.Len(t, distinct(salts), 3)
}

func distinct[T comparable](all []T) map[T]int {
	seen := make(map[T]int)
	for _, v := range all {
		seen[v]++
	}
	return seen
}

// Under contention the counter passes its end in many goroutines at once: no salt may be used more often for it, and
// no nonce twice.
func TestNoncesAreUniqueAndSaltsBoundedAcrossGoroutines(t *testing.T) {
	t.Parallel()
	const goroutines, each = 8, 3 * envelope.SealsPerSalt / 8
	c, k := envelope.NewCodec(envelope.Params{}), newKey(t, readmeKey)
	nonces := make([][][24]byte, goroutines)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for range each {
				stored, err := c.Seal(bg, k, "/k", nil)
				if err != nil {
					t.Error(err)
					return
				}
				nonces[g] = append(nonces[g], nonceOf(stored))
			}
		})
	}
	wg.Wait()
	all := slices.Concat(nonces...)
	require.Len(t, distinct(all), goroutines*each)
	perSalt := make(map[[envelope.SaltSize]byte]int)
	for _, n := range all {
		perSalt[[envelope.SaltSize]byte(n[:])]++
	}
	for _, n := range perSalt {
		require.LessOrEqual(t, n, envelope.SealsPerSalt)
	}
}

func TestKeysNeverShareASalt(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{})
	var salts [][envelope.SaltSize]byte
	for range 100 {
		stored, err := c.Seal(bg, newKey(t, readmeKey), "/k", nil)
		require.NoError(t, err)
		salts = append(salts, saltOf(stored))
	}
	require.Len(t, distinct(salts), len(salts))
}

func TestDerivedKeyIsKeptOnlyAfterValidTags(t *testing.T) {
	t.Parallel()
	c, k := envelope.NewCodec(envelope.Params{}), newKey(t, readmeKey)
	r := newRing(t, k)
	good, err := c.Seal(bg, k, "/k", []byte("v"))
	require.NoError(t, err)
	for i := range 100 {
		forged := slices.Clone(good)
		forged[envelope.HeaderSize] ^= byte(i + 1) // the salt
		_, err = c.Open(bg, r, "/k", forged, nil)
		require.ErrorIs(t, err, envelope.ErrDecrypt)
		require.Zero(t, envelope.CachedOpeners(k))
	}
	for range 3 {
		_, err = c.Open(bg, r, "/k", slices.Clone(good), nil)
		require.NoError(t, err)
		require.Equal(t, 1, envelope.CachedOpeners(k))
	}
}

func TestReaderKeepsABoundedNumberOfDerivedKeys(t *testing.T) {
	t.Parallel()
	require.Equal(t, 1024, envelope.CacheSize)
	c, k := envelope.NewCodec(envelope.Params{}), newKey(t, readmeKey)
	r := newRing(t, k)
	var stored [][]byte
	for range 5 * envelope.CacheSize {
		// A key made anew has a salt of its own.
		s, err := c.Seal(bg, newKey(t, readmeKey), "/k", []byte("v"))
		require.NoError(t, err)
		stored = append(stored, s)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, s := range stored {
				if got, err := c.Open(bg, r, "/k", slices.Clone(s), nil); err != nil || string(got) != "v" {
					t.Errorf("open: %q, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	for _, s := range stored[:envelope.CacheSize] {
		_, err := c.Open(bg, r, "/k", slices.Clone(s), nil)
		require.NoError(t, err)
		require.True(t, envelope.Cached(k, s), "the one used last is kept")
	}
	kept := envelope.CachedOpeners(k)
	require.LessOrEqual(t, kept, envelope.CacheSize)
	require.Greater(t, kept, envelope.CacheSize/2)
}
