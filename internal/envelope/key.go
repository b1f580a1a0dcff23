package envelope

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
)

const (
	minKeySize = 16
	maxKeySize = 4096

	hkdfSalt   = "etcd-value-encryption/v1"
	infoKeyID  = "key-id"
	infoXAES   = "XAES-256-GCM"
	infoAESGCM = "AES-256-GCM"
	subkeySize = 32
)

// Key encrypts and decrypts values. Make one with [NewKey] or [NewExternalKey]; the zero value is refused wherever a
// key is taken. Safe for concurrent use by multiple goroutines. It always prints redacted, with its id.
type Key struct {
	id    KeyID
	suite Suite // of what it writes; it reads values of suites 01 and 02 alike

	// A function and not a pointer: code that prints a struct by reflection, past its methods, can't look into it.
	secrets func() *secrets
}

// secrets is what the copies of one key share. Either external is set, or both of the others.
type secrets struct {
	xaes     *saltedGCM
	gcm      *directGCM
	external *external
}

// NewKey derives a key from 16 to 4096 bytes of secret material, used as it is: never padded, cut or decoded. It
// doesn't retain the material. The material must be random, or the result of a password hash; NewKey fails with
// ErrInvalidKey for fewer or more bytes, and for all zeros. The key writes XAES256GCM.
func NewKey(material []byte) (*Key, error) {
	if n := len(material); n < minKeySize || n > maxKeySize {
		return nil, fmt.Errorf("%w: %d bytes, want %d to %d", ErrInvalidKey, n, minKeySize, maxKeySize)
	}
	if allZero(material) {
		return nil, fmt.Errorf("%w: all bytes are zero", ErrInvalidKey)
	}
	d, err := derive(material)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidKey, err)
	}
	s := new(secrets)
	if s.xaes, err = newSaltedGCM(d.xaes); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidKey, err)
	}
	if s.gcm, err = newDirectGCM(d.gcm); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidKey, err)
	}
	return &Key{id: d.id, suite: XAES256GCM, secrets: func() *secrets { return s }}, nil
}

// NewExternalKey makes a key from an AEAD of the application, under an id of the application's choice, which must be
// unique among all that ever write to the same etcd. If the AEAD is also a ContextAEAD, those methods are called. It
// fails with ErrInvalidKey for a nil aead. The key writes ExternalAEAD.
func NewExternalKey(id KeyID, aead AEAD) (*Key, error) {
	if aead == nil {
		return nil, fmt.Errorf("%w: no AEAD", ErrInvalidKey)
	}
	s := &secrets{external: newExternal(aead)}
	return &Key{id: id, suite: ExternalAEAD, secrets: func() *secrets { return s }}, nil
}

// ID returns the id that the key's values carry.
func (k *Key) ID() KeyID { return k.id }

// Suite returns the suite that the key writes.
func (k *Key) Suite() Suite { return k.suite }

// WithSuite returns the same key, writing AES256GCM or XAES256GCM. Values of both are readable either way. AES256GCM
// is for readers that know no other suite, and for at most 2^32 writes of all clients together. Any other suite, and
// any suite for an external key, changes nothing.
func (k *Key) WithSuite(s Suite) *Key {
	other := *k
	if k.suite != ExternalAEAD && (s == AES256GCM || s == XAES256GCM) {
		other.suite = s
	}
	return &other
}

// String names the key by its id, for logs. The other formatting methods return the same.
func (k Key) String() string { return "envelope.Key(" + k.id.String() + "…)" }

// MarshalText is String, for JSON, YAML and XML. A key cannot be read back from it.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LogValue is String, for slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Format writes String for every verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

func (k *Key) usable() bool { return k != nil && k.secrets != nil }

type derived struct {
	id        KeyID
	xaes, gcm []byte
}

// derive is HKDF with SHA-256 (RFC 5869). Because the id comes from the same material, a value is committed to one
// key; GCM alone does not ensure that.
func derive(material []byte) (derived, error) {
	prk, err := hkdf.Extract(sha256.New, material, []byte(hkdfSalt))
	if err != nil {
		return derived{}, err
	}
	var out [3][]byte
	for i, info := range []struct {
		label string
		size  int
	}{{infoKeyID, keyIDSize}, {infoXAES, subkeySize}, {infoAESGCM, subkeySize}} {
		if out[i], err = hkdf.Expand(sha256.New, prk, info.label, info.size); err != nil {
			return derived{}, err
		}
	}
	return derived{id: KeyID(out[0]), xaes: out[1], gcm: out[2]}, nil
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
