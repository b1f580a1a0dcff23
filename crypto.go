package etcd

import (
	"context"
	"errors"
	"strings"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// codec turns values into what is stored and back, as the configuration says for
// the key's place. Every put and every key-value of an answer goes through it, in
// convert.go; rotate.go rewrites what is stored.
type codec struct {
	envelope *envelope.Codec
	keyring  *Keyring // nil without encryption
	compress bool
	legacy   *envelope.LegacyReader // nil without
	provider *keyLookup             // nil without

	// Prefixes of keys as stored.
	excluded        []string // values are stored as they are
	plaintextReads  []string // values without encryption are read too
	plaintextWrites []string // values are written without encryption, and read so
}

func newCodec(cfg *Config) (*codec, error) {
	c := &codec{
		envelope:        envelope.NewCodec(envelope.Params{Context: cfg.AssociatedContext, CompressMin: cfg.CompressionMinSize}),
		compress:        cfg.CompressionMinSize > 0,
		keyring:         cfg.Keyring,
		excluded:        cfg.storedPrefixes(cfg.UnencryptedPrefixes),
		plaintextReads:  cfg.storedPrefixes(cfg.PlaintextReads),
		plaintextWrites: cfg.storedPrefixes(cfg.PlaintextWrites),
	}
	if cfg.encrypts() && c.keyring == nil {
		key, err := NewEncryptionKey(cfg.EncryptionKey)
		if err != nil {
			return nil, errors.Join(ErrInvalidConfig, err)
		}
		if c.keyring, err = NewKeyring(key); err != nil {
			return nil, errors.Join(ErrInvalidConfig, err)
		}
	}
	if cfg.LegacyKey != nil {
		var err error
		if c.legacy, err = envelope.NewLegacyReader(cfg.LegacyKey); err != nil {
			return nil, errors.Join(ErrInvalidConfig, err)
		}
	}
	if cfg.KeyProvider != nil {
		c.provider = newKeyLookup(cfg.KeyProvider, c.keyring, cfg.RequestTimeout)
	}
	return c, nil
}

// close ends what the codec has under way.
func (c *codec) close() {
	if c.provider != nil {
		c.provider.end()
	}
}

// storedPrefixes returns prefixes as they are stored, under the namespace.
func (c *Config) storedPrefixes(prefixes []string) []string {
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = c.Namespace + p
	}
	return out
}

func under(prefixes []string, storedKey []byte) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(string(storedKey), p) { // no copy: the compiler sees through it
			return true
		}
	}
	return false
}

func (c *codec) encrypts() bool { return c.keyring != nil }

// plain reports whether the stored value is the value itself, so that the server
// can compare it.
func (c *codec) plain(storedKey []byte) bool {
	return c.keyring == nil && !c.compress || under(c.excluded, storedKey)
}

// unique reports whether what is stored under a key can only be of one writing: it
// holds a random nonce of this package.
func (c *codec) unique(storedKey, stored []byte) bool {
	if c.plain(storedKey) {
		return false
	}
	suite, err := envelope.SuiteOf(stored)
	return err == nil && (suite == envelope.XAES256GCM || suite == envelope.AES256GCM)
}

// encode returns what is stored for value under the key as stored, and the key that
// encrypted it, nil for none. The result may share memory with value.
func (c *codec) encode(ctx context.Context, storedKey, value []byte) ([]byte, *envelope.Key, error) {
	switch {
	case c.plain(storedKey):
		return value, nil, nil
	case c.keyring == nil, under(c.plaintextWrites, storedKey):
		stored, err := c.envelope.Compress(value)
		return stored, nil, err
	}
	return c.seal(ctx, storedKey, value)
}

// seal encrypts value with the primary key, and returns which that was. ctx is for
// the call of a key that is kept elsewhere.
func (c *codec) seal(_ context.Context, storedKey, value []byte) ([]byte, *envelope.Key, error) {
	primary := c.keyring.current().primary
	if primary == nil {
		return nil, nil, ErrNoPrimaryKey
	}
	stored, err := c.envelope.Seal(primary, text(storedKey), value)
	return stored, primary, err
}

// decode returns the value of what is stored. It may overwrite stored and return
// a part of it. The result is never nil without an error, so that an empty value
// can be told from a missing one.
func (c *codec) decode(ctx context.Context, storedKey, stored []byte) ([]byte, error) {
	value, err := c.open(ctx, storedKey, stored)
	if err != nil {
		return nil, err
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}

func (c *codec) open(ctx context.Context, storedKey, stored []byte) ([]byte, error) {
	switch {
	case c.plain(storedKey):
		return stored, nil
	case c.keyring == nil:
		return c.envelope.Decompress(stored)
	case !envelope.IsEnvelope(stored):
		return c.openForeign(storedKey, stored)
	}
	// A frame that is only compressed is as unproven as plaintext.
	if suite, err := envelope.SuiteOf(stored); err == nil && suite == envelope.NoSuite && !c.readsPlaintext(storedKey) {
		return nil, ErrNotEncrypted
	}
	value, err := c.envelope.Open(c.keyring.current().ring, text(storedKey), stored)
	if c.provider == nil || !errors.Is(err, ErrUnknownKey) {
		return value, err
	}
	id, _ := envelope.KeyIDOf(stored) // an unknown key has an ID, and leaves stored as it was
	if err := c.provider.find(ctx, KeyID(id)); err != nil {
		return nil, err
	}
	return c.envelope.Open(c.keyring.current().ring, text(storedKey), stored)
}

// openForeign reads a value that is not of this format.
func (c *codec) openForeign(storedKey, stored []byte) ([]byte, error) {
	if c.legacy != nil {
		if value, err := c.legacy.Open(stored); err == nil {
			return value, nil
		}
	}
	switch {
	case c.readsPlaintext(storedKey):
		return stored, nil
	case c.legacy != nil:
		return nil, ErrDecrypt
	default:
		return nil, ErrNotEncrypted
	}
}

func (c *codec) readsPlaintext(storedKey []byte) bool {
	return under(c.plaintextReads, storedKey) || under(c.plaintextWrites, storedKey)
}

// isLegacy reports whether the legacy key opens a stored value.
func (c *codec) isLegacy(stored []byte) bool {
	if c.legacy == nil {
		return false
	}
	_, err := c.legacy.Open(stored)
	return err == nil
}
