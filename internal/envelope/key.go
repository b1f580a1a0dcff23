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
// key is taken. Safe for concurrent use by multiple goroutines. It prints redacted, with its id, in every form.
type Key struct {
	id    KeyID
	suite Suite // of what is written; values of suites 01 and 02 are read alike

	// A function and not a pointer: what prints a struct by reflection, past its methods, cannot look into it.
	secrets func() *secrets
}

// secrets is what the copies of one key share. Either external is set or all the others.
type secrets struct {
	xaes     *saltedGCM
	gcm      *directGCM
	external *external
}

// NewKey derives a key from 16 to 4096 bytes of secret material, taken as they are: never padded, cut or decoded.
// The material is not retained. It must be random, or the outcome of a password hash; fewer or more bytes and all
// zeros are ErrInvalidKey. The key writes XAES256GCM.
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

// NewExternalKey makes a key of an AEAD that the application brings, under an id of the application's choice, which
// must be unique among all that ever write to the same etcd. One that is a ContextAEAD too is called by those methods. A
// nil aead is ErrInvalidKey. The key writes ExternalAEAD.
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
// is for readers that know no other, and for no more than 2^32 writes by all clients together. Any other suite, and
// any suite asked of an external key, changes nothing.
func (k *Key) WithSuite(s Suite) *Key {
	other := *k
	if k.suite != ExternalAEAD && (s == AES256GCM || s == XAES256GCM) {
		other.suite = s
	}
	return &other
}

// String names the key by its id, for logs. The other formatting methods all say the same.
func (k Key) String() string { return "envelope.Key(" + k.id.String() + "…)" }

// MarshalText is String, for JSON, YAML and XML. A key cannot be read back from it.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LogValue is String, for slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Format writes String, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

func (k *Key) usable() bool { return k != nil && k.secrets != nil }

type derived struct {
	id        KeyID
	xaes, gcm []byte
}

// derive is HKDF with SHA-256 (RFC 5869). That the id comes from the same material commits a value to one key, which
// GCM alone does not.
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
