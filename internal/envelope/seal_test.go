package envelope_test

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

func TestWhatIsSealedOpens(t *testing.T) {
	t.Parallel()
	for _, compressMin := range []int{0, 1} {
		c := envelope.NewCodec(envelope.Params{Context: []byte("ctx"), CompressMin: compressMin})
		r := fullRing(t)
		for suite, k := range keysBySuite(t) {
			for _, value := range [][]byte{
				nil, {}, {0}, []byte("v"), []byte("\xFFecv\x01\x02\x00\x00"), text(1000), dense(1000), text(1 << 20), dense(1 << 20),
			} {
				before := slices.Clone(value)
				stored, err := c.Seal(bg, k, "/k", value)
				require.NoError(t, err)
				require.True(t, bytes.Equal(before, value), "Seal changed its argument")
				require.Equal(t, len(stored), cap(stored), "exact size")
				got, err := c.Open(bg, r, "/k", stored, nil)
				require.NoError(t, err)
				require.True(t, bytes.Equal(value, got), "%s, %d bytes", suite, len(value))
			}
		}
	}
}

func TestEmptyValueIsNeverStoredEmpty(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{})
	for _, value := range [][]byte{nil, {}} {
		stored, err := c.Seal(bg, newKey(t, readmeKey), "/k", value)
		require.NoError(t, err)
		require.Len(t, stored, 64)
		got, err := c.Open(bg, fullRing(t), "/k", stored, nil)
		require.NoError(t, err)
		require.NotNil(t, got)
		require.Empty(t, got)
	}
}

func TestOpenedValueAliasesStoredBytesWithoutSpareCapacity(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{})
	for _, suite := range []envelope.Suite{envelope.XAES256GCM, envelope.AES256GCM} {
		stored, err := c.Seal(bg, newKey(t, readmeKey).WithSuite(suite), "/k", []byte("value"))
		require.NoError(t, err)
		got, err := c.Open(bg, fullRing(t), "/k", stored, nil)
		require.NoError(t, err)
		require.Equal(t, len(got), cap(got))
		clear(stored)
		require.Equal(t, make([]byte, 5), got)
	}
}

func TestValueOpensOnlyInItsPlaceAndContext(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{Context: []byte("prod")})
	for suite, k := range keysBySuite(t) {
		stored, err := c.Seal(bg, k, "/k", []byte("v"))
		require.NoError(t, err)
		for name, open := range map[string]func() ([]byte, error){
			"moved":          func() ([]byte, error) { return c.Open(bg, fullRing(t), "/other", slices.Clone(stored), nil) },
			"moved to none":  func() ([]byte, error) { return c.Open(bg, fullRing(t), "", slices.Clone(stored), nil) },
			"no context":     func() ([]byte, error) { return openIn(t, "", "/k", stored) },
			"other context":  func() ([]byte, error) { return openIn(t, "test", "/k", stored) },
			"shifted limits": func() ([]byte, error) { return openIn(t, "prod/", "k", stored) },
		} {
			_, err := open()
			require.Equal(t, envelope.ErrDecrypt, err, "%s, %s", suite, name)
		}
	}
}

func openIn(t *testing.T, context, key string, stored []byte) ([]byte, error) {
	t.Helper()
	return envelope.NewCodec(envelope.Params{Context: []byte(context)}).Open(bg, fullRing(t), key, slices.Clone(stored), nil)
}

// A ring that lacks the key may be completed and asked again, so its refusal must leave the value alone.
func TestUnknownKeyLeavesTheStoredValueUntouched(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{})
	stored := unhex(t, exampleValue)
	_, err := c.Open(bg, newRing(t, newKey(t, "the key of somebody else")), exampleKey, stored, nil)
	require.ErrorIs(t, err, envelope.ErrUnknownKey)
	require.ErrorContains(t, err, "ec0f867b")
	require.Equal(t, exampleValue, fmt.Sprintf("%x", stored))
}

func TestWithoutAKeyNothingIsSealed(t *testing.T) {
	t.Parallel()
	for _, k := range []*envelope.Key{nil, {}} {
		_, err := envelope.NewCodec(envelope.Params{}).Seal(bg, k, "/k", []byte("v"))
		require.ErrorIs(t, err, envelope.ErrInvalidKey)
	}
}

// echoAEAD returns its argument: the stored value must not share memory with what the caller handed in.
type echoAEAD struct{}

func (echoAEAD) Encrypt(plaintext, _ []byte) ([]byte, error)  { return plaintext, nil }
func (echoAEAD) Decrypt(ciphertext, _ []byte) ([]byte, error) { return ciphertext, nil }

func TestStoredValueNeverSharesMemoryWithTheValue(t *testing.T) {
	t.Parallel()
	k, err := envelope.NewExternalKey(externalID, echoAEAD{})
	require.NoError(t, err)
	value := []byte("value")
	stored, err := envelope.NewCodec(envelope.Params{}).Seal(bg, k, "/k", value)
	require.NoError(t, err)
	clear(value)
	require.Equal(t, "value", string(stored[24:]))
}

func TestCodecKeysAndRingServeManyGoroutines(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{CompressMin: 512})
	r, keys := fullRing(t), keysBySuite(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				for suite, k := range keys {
					place := fmt.Sprintf("/%d/%d", g, i)
					value := text(8 * i)
					stored, err := c.Seal(bg, k, place, value)
					if err != nil {
						t.Errorf("%s: seal: %v", suite, err)
						return
					}
					got, err := c.Open(bg, r, place, stored, nil)
					if err != nil || !bytes.Equal(value, got) {
						t.Errorf("%s: open: %v", suite, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}
