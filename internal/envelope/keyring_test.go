package envelope

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// plainAEAD seals by putting the associated data in front.
type plainAEAD struct{}

func (plainAEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return append(append([]byte{byte(len(associatedData))}, associatedData...), plaintext...), nil
}

func (plainAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	n := 1 + len(associatedData)
	if len(ciphertext) < n || ciphertext[0] != byte(len(associatedData)) || string(ciphertext[1:n]) != string(associatedData) {
		return nil, ErrDecrypt
	}
	return ciphertext[n:], nil
}

func TestKeyringIsBoundToPlaceAndEnvironment(t *testing.T) {
	t.Parallel()
	outer, err := NewExternalKey(KeyID{}, plainAEAD{})
	require.NoError(t, err)
	ctx := context.Background()
	sealed, err := SealKeyring(ctx, outer, "/ring", []byte("prod"), []byte("record"))
	require.NoError(t, err)
	ad := "etcd key ring 1" + "\x00\x00\x00\x05/ring" + "\x00\x00\x00\x04prod"
	require.Equal(t, "\xFFecv\x01\x80\x00\x00etcd-keyring/v1\x00"+string(rune(len(ad)))+ad+"record", string(sealed))
	record, err := OpenKeyring(ctx, outer, "/ring", []byte("prod"), sealed)
	require.NoError(t, err)
	require.Equal(t, "record", string(record))
	for _, other := range []struct{ place, environment string }{
		{"/ring", ""}, {"/ring", "staging"}, {"/other", "prod"}, {"/rin", "gprod"}, {"/ringprod", ""},
	} {
		_, err = OpenKeyring(ctx, outer, other.place, []byte(other.environment), sealed)
		require.ErrorIs(t, err, ErrDecrypt, other)
	}
}

func TestValueThatIsNoKeyringIsRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	outer, err := NewExternalKey(KeyID{}, plainAEAD{})
	require.NoError(t, err)
	const id = "etcd-keyring/v1\x00"
	for stored, want := range map[string]error{
		"":                               ErrNotEncrypted,
		"plaintext":                      ErrNotEncrypted,
		"\xFFecv\x01\x00\x00\x00record":  ErrNotEncrypted,
		"\xFFecv\x02\x80\x00\x00" + id:   ErrUnsupportedFormat,
		"\xFFecv\x01\x80\x01\x00" + id:   ErrUnsupportedFormat,
		"\xFFecv\x01\x80\x00\x00" + "id": ErrCorrupt,
		"\xFFecv\x01\x80\x00\x00" + "0123456789abcdef": ErrUnknownKey,
		"\xFFecv\x01\x80\x00\x00" + id + "x":           ErrDecrypt,
	} {
		_, err := OpenKeyring(ctx, outer, "/ring", nil, []byte(stored))
		require.ErrorIs(t, err, want, "%q", stored)
	}
	inner, err := NewKey([]byte("a key of its own"))
	require.NoError(t, err)
	for _, k := range []*Key{nil, {}, inner} {
		_, err = SealKeyring(ctx, k, "/ring", nil, nil)
		require.ErrorIs(t, err, ErrInvalidKey)
		_, err = OpenKeyring(ctx, k, "/ring", nil, nil)
		require.ErrorIs(t, err, ErrInvalidKey)
	}
}
