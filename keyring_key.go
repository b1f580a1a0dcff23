package etcd

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/text/unicode/norm"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// KeyID identifies an encryption key. It is derived from the key, so all holders of a key
// agree on it without being told. Each value holds the ID of the key that encrypted it.
// It is comparable, and no secret.
type KeyID [16]byte

// String returns the first 8 hexadecimal digits, the form for logs.
func (id KeyID) String() string { return hex.EncodeToString(id[:4]) }

// Hex returns the whole ID in hexadecimal.
func (id KeyID) Hex() string { return hex.EncodeToString(id[:]) }

// LogValue is String, for slog.
func (id KeyID) LogValue() slog.Value { return slog.StringValue(id.String()) }

// MarshalText is Hex, for JSON and YAML, where two keys must never look the same.
func (id KeyID) MarshalText() ([]byte, error) { return []byte(id.Hex()), nil }

// UnmarshalText reads what Hex writes, from a command line for example. It fails with
// [ErrInvalidArgument] for anything else.
func (id *KeyID) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(id) {
		return fmt.Errorf("%w: a key ID has %d hexadecimal digits", ErrInvalidArgument, 2*len(id))
	}
	*id = KeyID(b)
	return nil
}

// Suite names the algorithm that encrypted a value.
type Suite string

// The suites that a value can be encrypted in.
const (
	SuiteXAES256GCM Suite = "XAES-256-GCM" // the default
	SuiteAES256GCM  Suite = "AES-256-GCM"  // by EncryptionKey.WithPlainGCM
	SuiteAEAD       Suite = "AEAD"         // by an AEAD of the application
)

func suiteOf(s envelope.Suite) Suite {
	switch s {
	case envelope.AES256GCM:
		return SuiteAES256GCM
	case envelope.ExternalAEAD:
		return SuiteAEAD
	default:
		return SuiteXAES256GCM
	}
}

// AEAD is an authenticated encryption that this package does not implement itself, with
// the methods of Tink's tink.AEAD: a keyset, or a key that stays in a key management
// service. It must be safe for concurrent use, and must keep neither of its arguments.
//
// If it has the methods of [AEADWithContext] as well, those are called;
// [FromAEADWithContext] makes an AEAD of a type that has only those. No call waits for an
// AEAD past the end of its context (or [Config.RequestTimeout], if that has no deadline),
// or past [Client.Close]. An AEAD without a context then goes on in a goroutine of its
// own; at most 128 of those run before further calls wait for one to return.
//
// Decrypt reports that a ciphertext does not open by an error that matches [ErrDecrypt].
// Most AEADs don't distinguish that from an outage. So an error of a network or a
// context, or of a gRPC code that stands for one, counts as [ErrKeyUnavailable]; after
// any other error the AEAD must seal and open a few bytes, and then fail again, before
// the value is blamed. An AEAD that can't encrypt should return ErrDecrypt itself. Any
// error of Encrypt counts as ErrKeyUnavailable.
type AEAD interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// AEADWithContext is an [AEAD] whose calls end with a context, with the methods of Tink's
// tink.AEADWithContext. It is the right form for a key that stays in a key management
// service. The context ends with the call of this package that needs the key.
type AEADWithContext interface {
	EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
}

// FromAEADWithContext returns aead for everything that takes an [AEAD]; this package
// calls it with a context. It returns nil for nil, which those refuse.
func FromAEADWithContext(aead AEADWithContext) AEAD {
	if aead == nil {
		return nil
	}
	return contextAEAD{aead}
}

type contextAEAD struct{ AEADWithContext }

func (a contextAEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return a.EncryptWithContext(context.Background(), plaintext, associatedData)
}

func (a contextAEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return a.DecryptWithContext(context.Background(), ciphertext, associatedData)
}

// EncryptionKey encrypts and decrypts values. Make one with [NewEncryptionKey] or
// [NewAEADKey]; the zero value is refused. It is immutable and safe for concurrent use,
// and always prints redacted, as the first digits of its ID.
type EncryptionKey struct {
	key         *envelope.Key
	encryptOnly bool
}

// NewEncryptionKey returns the key for 16 to 4096 secret bytes, such as [GenerateKey]
// makes. They are used through HKDF-SHA-256 and never padded, cut or decoded. It fails
// with [ErrInvalidKey] for any other length, and for all zeros.
//
// The bytes must be random; for a password use [KeyFromPassphrase].
func NewEncryptionKey(secret []byte) (*EncryptionKey, error) {
	key, err := envelope.NewKey(secret)
	if err != nil {
		return nil, err
	}
	return &EncryptionKey{key: key}, nil
}

// NewAEADKey returns a key that lets aead encrypt and decrypt. The ID goes into each
// value and must belong to this AEAD alone, across the whole fleet. It fails with
// [ErrInvalidKey] for a nil aead.
func NewAEADKey(id KeyID, aead AEAD) (*EncryptionKey, error) {
	key, err := envelope.NewExternalKey(envelope.KeyID(id), aead)
	if err != nil {
		return nil, err
	}
	return &EncryptionKey{key: key}, nil
}

// GenerateKey returns 32 random bytes, for [NewEncryptionKey] and
// [Config.WithEncryption].
func GenerateKey() []byte {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails: it ends the program instead
	return secret
}

const (
	// OWASP's Password Storage Cheat Sheet asks for this many rounds with HMAC-SHA-256.
	passphraseRounds = 600_000
	minSaltSize      = 16
)

// KeyFromPassphrase derives the 32 bytes of a key from a passphrase with
// PBKDF2-HMAC-SHA-256 in 600,000 rounds, which takes some tenths of a second. The salt
// has at least 16 random bytes; it is not secret, but the same key needs the same salt.
// Both ways in which Unicode writes some letters make the same key: the passphrase is
// used in normal form C.
//
// Anyone who can read a value, or knows the key's ID, can try passphrases for as long as
// they like, at thousands a second for each graphics card. The rounds make a guess
// dearer, not a passphrase stronger: use at least six random words, or better
// [GenerateKey].
//
// It fails with [ErrInvalidKey] for an empty passphrase, and for a salt that is shorter,
// equals the passphrase, or is plainly not random: fewer than 8 different bytes, or bytes
// that count up or down.
func KeyFromPassphrase(passphrase string, salt []byte) ([]byte, error) {
	switch {
	case passphrase == "":
		return nil, fmt.Errorf("%w: empty passphrase", ErrInvalidKey)
	case len(salt) < minSaltSize:
		return nil, fmt.Errorf("%w: salt of %d bytes, want at least %d", ErrInvalidKey, len(salt), minSaltSize)
	case string(salt) == passphrase:
		return nil, fmt.Errorf("%w: the salt is the passphrase", ErrInvalidKey)
	case isTrivial(salt):
		return nil, fmt.Errorf("%w: the salt is not random", ErrInvalidKey)
	}
	return pbkdf2.Key(sha256.New, norm.NFC.String(passphrase), salt, passphraseRounds, 32)
}

// isTrivial reports whether a salt is not random. Less than one in 10^11 random salts of
// 16 bytes has so few different bytes.
func isTrivial(salt []byte) bool {
	seen := map[byte]bool{}
	counts := true
	for i, b := range salt {
		seen[b] = true
		counts = counts && (i == 0 || b-salt[i-1] == salt[1]-salt[0])
	}
	return counts || len(seen) < minSaltSize/2
}

// ID returns the key's ID, which is zero for the zero value.
func (k *EncryptionKey) ID() KeyID {
	if !k.usable() {
		return KeyID{}
	}
	return KeyID(k.key.ID())
}

// EncryptOnly returns the same key for a [Keyring] that may write values but not read
// them: as the primary it encrypts, and reading a value that it encrypted fails with
// [ErrUnknownKey].
func (k *EncryptionKey) EncryptOnly() *EncryptionKey {
	other := *k
	other.encryptOnly = true
	return &other
}

// WithPlainGCM returns the same key, writing for readers that only know AES-256-GCM with
// a 12-byte nonce (suite 01 of the format). Values of both suites are read either way;
// [Client.Reencrypt] counts those that are not of the primary's suite as stale. It is
// safe for at most 2^32 writes of all clients together. A key of [NewAEADKey] stays as it
// is.
func (k *EncryptionKey) WithPlainGCM() *EncryptionKey {
	other := *k
	if k.key != nil {
		other.key = k.key.WithSuite(envelope.AES256GCM)
	}
	return &other
}

func (k *EncryptionKey) usable() bool { return k != nil && k.key != nil }

// String names the key by the first digits of its ID.
func (k EncryptionKey) String() string {
	if k.key == nil {
		return "etcd.EncryptionKey(none)"
	}
	return "etcd.EncryptionKey(" + k.ID().String() + "…)"
}

// Format writes String for every verb.
func (k EncryptionKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText is String, for JSON and YAML. A key can't be read back from it.
func (k EncryptionKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LogValue is String, for slog.
func (k EncryptionKey) LogValue() slog.Value { return slog.StringValue(k.String()) }
