package etcd_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

const (
	formatKey   = "32-byte-encryption-key-here!!!"
	formatKeyID = "ec0f867b581764e28f3ffc18a2f3d5ab" // in the format's specification
)

func newKey(t testing.TB, secret string) *etcd.EncryptionKey {
	t.Helper()
	key, err := etcd.NewEncryptionKey([]byte(secret))
	require.NoError(t, err)
	return key
}

// reversing is an AEAD that protects nothing.
type reversing struct{ secret string }

func (reversing) Encrypt(plaintext, _ []byte) ([]byte, error) { return bytes.Clone(plaintext), nil }

func (reversing) Decrypt(ciphertext, _ []byte) ([]byte, error) { return bytes.Clone(ciphertext), nil }

func TestKeyIDIsDerivedFromTheKeyAlone(t *testing.T) {
	t.Parallel()
	key := newKey(t, formatKey)
	require.Equal(t, formatKeyID, key.ID().Hex())
	require.Equal(t, formatKeyID[:8], key.ID().String())
	require.Equal(t, key.ID(), newKey(t, formatKey).ID())
	require.Equal(t, key.ID(), key.WithPlainGCM().ID())
	require.Equal(t, key.ID(), key.EncryptOnly().ID())
	require.NotEqual(t, key.ID(), newKey(t, formatKey+"!").ID())
}

func TestEncodedKeyIDIsWholeAndReadBack(t *testing.T) {
	t.Parallel()
	id := newKey(t, formatKey).ID()
	encoded, err := json.Marshal(map[etcd.KeyID]etcd.KeyID{id: id})
	require.NoError(t, err)
	require.JSONEq(t, `{"`+formatKeyID+`":"`+formatKeyID+`"}`, string(encoded))
	var decoded map[etcd.KeyID]etcd.KeyID
	require.NoError(t, json.Unmarshal(encoded, &decoded))
	require.Equal(t, map[etcd.KeyID]etcd.KeyID{id: id}, decoded)

	var fromFlag etcd.KeyID
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.TextVar(&fromFlag, "key", etcd.KeyID{}, "")
	require.NoError(t, flags.Parse([]string{"-key", strings.ToUpper(formatKeyID)}))
	require.Equal(t, id, fromFlag)

	for _, bad := range []string{"", formatKeyID[:8], formatKeyID + "00", strings.Repeat("x", 32)} {
		kept := id
		require.ErrorIs(t, kept.UnmarshalText([]byte(bad)), etcd.ErrInvalidArgument, bad)
		require.Equal(t, id, kept)
	}
}

func TestKeyIsRefusedUnlessItCouldBeRandom(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string][]byte{
		"nil": nil, "empty": {}, "short": make([]byte, 15), "long": bytes.Repeat([]byte("k"), 4097), "zero": make([]byte, 32),
	} {
		key, err := etcd.NewEncryptionKey(secret)
		require.ErrorIs(t, err, etcd.ErrInvalidKey, name)
		require.Nil(t, key, name)
	}
	key, err := etcd.NewAEADKey(etcd.KeyID{1}, nil)
	require.ErrorIs(t, err, etcd.ErrInvalidKey)
	require.Nil(t, key)
}

func TestZeroKeyCanBeAskedAnything(t *testing.T) {
	t.Parallel()
	var zero etcd.EncryptionKey
	require.Equal(t, etcd.KeyID{}, zero.ID())
	require.Equal(t, etcd.KeyID{}, zero.WithPlainGCM().ID())
	require.Equal(t, "etcd.EncryptionKey(none)", zero.EncryptOnly().String())
}

func TestGeneratedKeysDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		secret := etcd.GenerateKey()
		require.Len(t, secret, 32)
		require.False(t, seen[string(secret)])
		seen[string(secret)] = true
	}
}

// The answer is that of Python's hashlib.pbkdf2_hmac.
func TestKeyFromPassphraseIsPBKDF2(t *testing.T) {
	t.Parallel()
	key, err := etcd.KeyFromPassphrase("correct horse battery staple", []byte("0123456789abcdef"))
	require.NoError(t, err)
	require.Equal(t, "6c4a646aad10d067add5fb79d9078a16da83d50f81670a8e7593b249e6d94936", hex.EncodeToString(key))
}

func TestPassphraseMakesOneKeyInAnyUnicodeForm(t *testing.T) {
	t.Parallel()
	salt := etcd.GenerateKey()[:16]
	composed, err := etcd.KeyFromPassphrase("caf\u00e9", salt)
	require.NoError(t, err)
	decomposed, err := etcd.KeyFromPassphrase("cafe\u0301", salt)
	require.NoError(t, err)
	require.Equal(t, composed, decomposed)
	other, err := etcd.KeyFromPassphrase("cafe", salt)
	require.NoError(t, err)
	require.NotEqual(t, composed, other)
}

func TestKeyFromPassphraseRefusesWhatMakesNoKey(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ passphrase, salt string }{
		"no passphrase": {"", "0123456789abcdef"},
		"no salt":       {"passphrase", ""},
		"short salt":    {"passphrase", "0123456789abcde"},
		"zero salt":     {"passphrase", strings.Repeat("\x00", 16)},
		"one letter":    {"passphrase", strings.Repeat("s", 32)},
		"one word":      {"passphrase", "saltsaltsaltsalt"},
		"counting":      {"passphrase", "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"},
		"counting down": {"passphrase", "ponmlkjihgfedcba"},
		"itself":        {"correct horse battery", "correct horse battery"},
	} {
		key, err := etcd.KeyFromPassphrase(row.passphrase, []byte(row.salt))
		require.ErrorIs(t, err, etcd.ErrInvalidKey, name)
		require.Nil(t, key)
	}
}
