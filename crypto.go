package etcd

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/blueprint-go/etcd/internal/envelope"
	"github.com/blueprint-go/etcd/internal/keys"
)

// codec turns values into stored bytes and back, as the configuration says for the key's
// prefix. Every put and every key-value of an answer goes through it, in kv_convert.go;
// rotate.go rewrites stored values.
type codec struct {
	namespace namespace
	envelope  *envelope.Codec
	keyring   *Keyring // nil without encryption
	compress  bool
	legacy    *envelope.LegacyReader // nil without
	provider  *keyLookup             // nil without

	timeout time.Duration // of calls that leave the process, where the caller has no deadline
	// life ends with the client.
	life context.Context
	end  context.CancelCauseFunc

	// Prefixes of keys as stored.
	excluded        []string // values are stored as they are
	plaintextReads  []string // values without encryption are read too
	plaintextWrites []string // values are written without encryption, and read so
	legacyReads     []string // values that the legacy key opens are read too
}

func newCodec(cfg *Config) (*codec, error) {
	c := &codec{
		namespace:       newNamespace(cfg),
		envelope:        envelope.NewCodec(envelope.Params{Context: cfg.AssociatedContext, CompressMin: cfg.CompressionMinSize}),
		compress:        cfg.CompressionMinSize > 0,
		timeout:         cfg.RequestTimeout,
		keyring:         cfg.Keyring,
		excluded:        cfg.storedPrefixes(cfg.UnencryptedPrefixes),
		plaintextReads:  cfg.storedPrefixes(cfg.PlaintextReads),
		plaintextWrites: cfg.storedPrefixes(cfg.PlaintextWrites),
		legacyReads:     cfg.storedPrefixes(cfg.LegacyPrefixes),
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
	c.life, c.end = context.WithCancelCause(context.Background())
	if cfg.KeyProvider != nil {
		c.provider = newKeyLookup(c.life, cfg.KeyProvider, c.keyring, cfg.RequestTimeout)
	}
	return c, nil
}

// close ends the codec's calls that leave the process.
func (c *codec) close() { c.end(ErrClosed) }

// storedPrefixes returns prefixes as stored, with the namespace.
func (c *Config) storedPrefixes(prefixes []string) []string {
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = c.Namespace + p
	}
	return out
}

func under(prefixes []string, storedKey []byte) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(string(storedKey), p) { // no copy: the compiler avoids it
			return true
		}
	}
	return false
}

func (c *codec) encrypts() bool { return c.keyring != nil }

// encryptsAt reports whether values are encrypted when written under the key.
func (c *codec) encryptsAt(storedKey []byte) bool {
	return c.keyring != nil && !under(c.excluded, storedKey) && !under(c.plaintextWrites, storedKey)
}

// plain reports whether the stored value is the value itself, so that the server
// can compare it.
func (c *codec) plain(storedKey []byte) bool {
	return c.keyring == nil && !c.compress || under(c.excluded, storedKey)
}

// passesSealed reports whether what was encrypted elsewhere is read as it is stored: the client
// has no key, or uses none there.
func (c *codec) passesSealed(storedKey []byte) bool {
	return c.keyring == nil || under(c.excluded, storedKey)
}

// unique reports whether only one write can have made what is stored under a key, because
// it holds a random nonce of this package.
func (c *codec) unique(storedKey, stored []byte) bool {
	if c.plain(storedKey) {
		return false
	}
	suite, err := envelope.SuiteOf(stored)
	return err == nil && (suite == envelope.XAES256GCM || suite == envelope.AES256GCM)
}

// encode returns what is stored for value under the key as stored, and the key that
// encrypted it, or nil. The result may share memory with value.
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

// seal encrypts value with the primary key, and returns that key. ctx is for the call of
// a key that is kept elsewhere.
func (c *codec) seal(ctx context.Context, storedKey, value []byte) ([]byte, *envelope.Key, error) {
	primary, err := c.keyring.encrypting(ctx)
	if err != nil {
		return nil, nil, err
	}
	if primary.Suite() == envelope.ExternalAEAD {
		var cancel context.CancelFunc
		ctx, cancel = c.bounded(ctx, c.timeout)
		defer cancel()
	}
	stored, err := c.envelope.Seal(ctx, primary, keys.Text(storedKey), value)
	return stored, primary, err
}

// decode decodes one value by itself.
func (c *codec) decode(ctx context.Context, storedKey, stored []byte) ([]byte, error) {
	d := c.decoding(ctx)
	defer d.end()
	return d.decode(storedKey, stored)
}

// openForeign reads a value that is not in this format.
func (c *codec) openForeign(storedKey, stored []byte) ([]byte, error) {
	legacy := under(c.legacyReads, storedKey)
	if legacy {
		if value, err := c.legacy.Open(stored); err == nil {
			return value, nil
		}
	}
	switch {
	case c.readsPlaintext(storedKey):
		return stored, nil
	case legacy:
		return nil, ErrDecrypt
	default:
		return nil, ErrNotEncrypted
	}
}

func (c *codec) readsPlaintext(storedKey []byte) bool {
	return under(c.plaintextReads, storedKey) || under(c.plaintextWrites, storedKey)
}

// isLegacy reports whether the legacy key opens a stored value, and may.
func (c *codec) isLegacy(storedKey, stored []byte) bool {
	if !under(c.legacyReads, storedKey) {
		return false
	}
	_, err := c.legacy.Open(stored)
	return err == nil
}
