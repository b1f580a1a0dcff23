package etcd

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// KeyID identifies an encryption key. It is derived from the key, so that all
// holders of a key agree on it without being told, and stands in each value that
// the key encrypted.
type KeyID [16]byte

// String returns the first 8 hexadecimal digits, the form for logs.
func (id KeyID) String() string { return hex.EncodeToString(id[:4]) }

// Hex returns the whole ID in hexadecimal.
func (id KeyID) Hex() string { return hex.EncodeToString(id[:]) }

// AEAD is an authenticated encryption that this package does not make itself,
// with the methods of Tink's tink.AEAD: a keyset, or a key that stays in a key
// management service. It must be safe for concurrent use.
type AEAD interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// EncryptionKey encrypts and decrypts values. Make one with [NewEncryptionKey] or
// [NewAEADKey]; the zero value is refused. It is immutable, safe for concurrent
// use, and prints redacted: the first digits of its ID in every form.
type EncryptionKey struct {
	key         *envelope.Key
	encryptOnly bool
}

// NewEncryptionKey returns the key for secret bytes of 16 to 4096 bytes, such as
// [GenerateKey] makes. They are used through HKDF-SHA-256 and never padded, cut
// or decoded. Anything else, and all zeros, is [ErrInvalidKey].
//
// The bytes must be random: for a password use [KeyFromPassphrase].
func NewEncryptionKey(secret []byte) (*EncryptionKey, error) {
	key, err := envelope.NewKey(secret)
	if err != nil {
		return nil, err
	}
	return &EncryptionKey{key: key}, nil
}

// NewAEADKey returns a key that lets aead encrypt and decrypt. The ID goes into
// each value and must belong to this AEAD alone, across the whole fleet.
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
	// OWASP's Password Storage Cheat Sheet asks for this many rounds with
	// HMAC-SHA-256.
	passphraseRounds = 600_000
	minSaltSize      = 16
)

// KeyFromPassphrase derives the 32 bytes of a key from a passphrase with
// PBKDF2-HMAC-SHA-256 in 600,000 rounds, some tenths of a second of work. The
// salt has 16 random bytes or more; it is not secret, but the same salt is needed
// to get the same key again. An empty passphrase or a shorter salt is
// [ErrInvalidKey].
func KeyFromPassphrase(passphrase string, salt []byte) ([]byte, error) {
	if passphrase == "" {
		return nil, fmt.Errorf("%w: empty passphrase", ErrInvalidKey)
	}
	if len(salt) < minSaltSize {
		return nil, fmt.Errorf("%w: salt of %d bytes, want at least %d", ErrInvalidKey, len(salt), minSaltSize)
	}
	return pbkdf2.Key(sha256.New, passphrase, salt, passphraseRounds, 32)
}

// ID returns the key's ID.
func (k *EncryptionKey) ID() KeyID { return KeyID(k.key.ID()) }

// EncryptOnly returns the same key for a [Keyring] that may write values and not
// read them: as the primary it encrypts, and values that it encrypted are
// [ErrUnknownKey] to that ring.
func (k *EncryptionKey) EncryptOnly() *EncryptionKey {
	return &EncryptionKey{key: k.key, encryptOnly: true}
}

// ForFIPSReaders returns the same key for readers that know AES-256-GCM with a
// 12-byte nonce only (suite 01 of the format). Values of both suites are read
// either way. It is for no more than 2^32 writes of all clients together.
func (k *EncryptionKey) WithPlainGCM() *EncryptionKey {
	return &EncryptionKey{key: k.key.WithSuite(envelope.AES256GCM), encryptOnly: k.encryptOnly}
}

func (k *EncryptionKey) usable() bool { return k != nil && k.key != nil }

// String names the key by the first digits of its ID.
func (k EncryptionKey) String() string {
	if k.key == nil {
		return "etcd.EncryptionKey(none)"
	}
	return "etcd.EncryptionKey(" + k.ID().String() + "…)"
}

// GoString is String, for %#v.
func (k EncryptionKey) GoString() string { return k.String() }

// Format writes String, whatever the verb.
func (k EncryptionKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText is String, for JSON and YAML. A key can't be read back from it.
func (k EncryptionKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LogValue is String, for slog.
func (k EncryptionKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Keyring holds the keys of one or more clients: the primary, which encrypts, and
// others, which only decrypt. It can be changed while requests are under way: a
// request uses the keys of one moment, and readers take no lock. It is safe for
// concurrent use and prints the IDs of its keys only. Make one with [NewKeyring].
//
// To rotate from key A to key B without downtime, let each step be done on every
// instance before the next begins: primary A with B to decrypt; primary B with A
// to decrypt; [Client.Reencrypt]; primary B alone. docs/encryption.md has it in
// full.
type Keyring struct {
	mu   sync.Mutex // serializes changes
	keys atomic.Pointer[keys]
}

// keys are the keys of a ring at one moment.
type keys struct {
	primary *envelope.Key
	ring    *envelope.Ring // opens
}

// NewKeyring returns a ring of a primary key and others that only decrypt. A nil
// primary makes a ring that can only read: writes fail with [ErrNoPrimaryKey].
// Two keys with one ID are [ErrInvalidKey].
func NewKeyring(primary *EncryptionKey, others ...*EncryptionKey) (*Keyring, error) {
	k := &Keyring{}
	return k, k.Replace(primary, others...)
}

// Replace changes the keys to these, all at once. When it fails the ring is as
// it was. A ring never becomes empty.
func (k *Keyring) Replace(primary *EncryptionKey, others ...*EncryptionKey) error {
	next, err := newKeys(primary, others)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys.Store(next)
	return nil
}

func newKeys(primary *EncryptionKey, others []*EncryptionKey) (*keys, error) {
	next := &keys{}
	var open []*envelope.Key
	if primary != nil {
		if !primary.usable() {
			return nil, fmt.Errorf("%w: zero key", ErrInvalidKey)
		}
		next.primary = primary.key
		if !primary.encryptOnly {
			open = append(open, primary.key)
		}
	}
	for _, o := range others {
		if !o.usable() {
			return nil, fmt.Errorf("%w: zero key", ErrInvalidKey)
		}
		open = append(open, o.key)
	}
	if next.primary == nil && len(open) == 0 {
		return nil, fmt.Errorf("%w: no key", ErrInvalidKey)
	}
	var err error
	next.ring, err = envelope.NewRing(nil, open...)
	return next, err
}

// add puts a key that only decrypts into the ring, unless it is there.
func (k *Keyring) add(key *EncryptionKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.keys.Load()
	if now.ring.Lookup(key.key.ID()) != nil {
		return nil
	}
	var open []*envelope.Key
	for _, id := range now.ring.IDs() {
		open = append(open, now.ring.Lookup(id))
	}
	ring, err := envelope.NewRing(nil, append(open, key.key)...)
	if err != nil {
		return err
	}
	k.keys.Store(&keys{primary: now.primary, ring: ring})
	return nil
}

// Primary returns the ID of the key that encrypts; false when there is none.
func (k *Keyring) Primary() (KeyID, bool) {
	now := k.keys.Load()
	if now.primary == nil {
		return KeyID{}, false
	}
	return KeyID(now.primary.ID()), true
}

// IDs returns the IDs of all keys that decrypt, sorted.
func (k *Keyring) IDs() []KeyID {
	var out []KeyID
	for _, id := range k.keys.Load().ring.IDs() {
		out = append(out, KeyID(id))
	}
	slices.SortFunc(out, func(a, b KeyID) int { return slices.Compare(a[:], b[:]) })
	return out
}

// String names the keys by the first digits of their IDs.
func (k *Keyring) String() string {
	primary := "none"
	if id, ok := k.Primary(); ok {
		primary = id.String()
	}
	return fmt.Sprintf("etcd.Keyring(primary %s, reads %v)", primary, k.IDs())
}

// GoString is String, for %#v.
func (k *Keyring) GoString() string { return k.String() }

// Format writes String, whatever the verb.
func (k *Keyring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText is String, for JSON and YAML. A ring can't be read back from it.
func (k *Keyring) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LogValue is String, for slog.
func (k *Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }
