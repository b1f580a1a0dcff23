package envelope_test

import (
	"bytes"
	"errors"
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
				stored, err := c.Seal(k, "/k", value)
				require.NoError(t, err)
				require.True(t, bytes.Equal(before, value), "Seal changed its argument")
				require.Equal(t, len(stored), cap(stored), "exact size")
				got, err := c.Open(r, "/k", stored)
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
		stored, err := c.Seal(newKey(t, readmeKey), "/k", value)
		require.NoError(t, err)
		require.Len(t, stored, 64)
		got, err := c.Open(fullRing(t), "/k", stored)
		require.NoError(t, err)
		require.NotNil(t, got)
		require.Empty(t, got)
	}
}

func TestOpenedValueIsPartOfTheStoredOneAndCannotGrowIntoIt(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{})
	for _, suite := range []envelope.Suite{envelope.XAES256GCM, envelope.AES256GCM} {
		stored, err := c.Seal(newKey(t, readmeKey).WithSuite(suite), "/k", []byte("value"))
		require.NoError(t, err)
		got, err := c.Open(fullRing(t), "/k", stored)
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
		stored, err := c.Seal(k, "/k", []byte("v"))
		require.NoError(t, err)
		for name, open := range map[string]func() ([]byte, error){
			"moved":          func() ([]byte, error) { return c.Open(fullRing(t), "/other", slices.Clone(stored)) },
			"moved to none":  func() ([]byte, error) { return c.Open(fullRing(t), "", slices.Clone(stored)) },
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
	return envelope.NewCodec(envelope.Params{Context: []byte(context)}).Open(fullRing(t), key, slices.Clone(stored))
}

// A ring that lacks the key may be completed and asked again, so its refusal must leave the value alone.
func TestUnknownKeyLeavesTheStoredValueUntouched(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{})
	stored := unhex(t, exampleValue)
	_, err := c.Open(newRing(t, newKey(t, "the key of somebody else")), exampleKey, stored)
	require.ErrorIs(t, err, envelope.ErrUnknownKey)
	require.ErrorContains(t, err, "ec0f867b")
	require.Equal(t, exampleValue, fmt.Sprintf("%x", stored))
}

func TestWithoutAKeyNothingIsSealed(t *testing.T) {
	t.Parallel()
	for _, k := range []*envelope.Key{nil, {}} {
		_, err := envelope.NewCodec(envelope.Params{}).Seal(k, "/k", []byte("v"))
		require.ErrorIs(t, err, envelope.ErrInvalidKey)
	}
}

// failingAEAD is a key service that is down, and says more than it should.
type failingAEAD struct{ err error }

func (f failingAEAD) Encrypt(_, _ []byte) ([]byte, error) { return nil, f.err }
func (f failingAEAD) Decrypt(_, _ []byte) ([]byte, error) { return nil, f.err }

func TestExternalAEADsFailureIsNamedWhenSealingAndHiddenWhenOpening(t *testing.T) {
	t.Parallel()
	down := errors.New("service is down")
	k, err := envelope.NewExternalKey(externalID, failingAEAD{down})
	require.NoError(t, err)
	c := envelope.NewCodec(envelope.Params{})
	_, err = c.Seal(k, "/k", []byte("v"))
	require.ErrorIs(t, err, down)

	stored, err := c.Seal(keysBySuite(t)[envelope.ExternalAEAD], "/k", []byte("v"))
	require.NoError(t, err)
	_, err = c.Open(newRing(t, k), "/k", stored)
	require.Equal(t, envelope.ErrDecrypt, err)
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
	stored, err := envelope.NewCodec(envelope.Params{}).Seal(k, "/k", value)
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
					stored, err := c.Seal(k, place, value)
					if err != nil {
						t.Errorf("%s: seal: %v", suite, err)
						return
					}
					got, err := c.Open(r, place, stored)
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
