package etcd

import (
	"errors"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// codec turns values into what is stored and back. Every put and every
// key-value of an answer goes through it: convert.go holds the only places that
// read or write a value of the wire.
type codec struct {
	envelope *envelope.Codec
	ring     *envelope.Ring // nil without encryption
	compress bool
}

func newCodec(cfg *Config) (*codec, error) {
	c := &codec{compress: cfg.CompressionMinSize > 0}
	c.envelope = envelope.NewCodec(envelope.Params{CompressMin: cfg.CompressionMinSize})
	if !cfg.encrypts() {
		return c, nil
	}
	key, err := envelope.NewKey(cfg.EncryptionKey)
	if err != nil {
		return nil, errors.Join(ErrInvalidConfig, err)
	}
	c.ring, err = envelope.NewRing(key)
	return c, err
}

func (c *codec) encrypts() bool { return c.ring != nil }

// plain reports whether a stored value is the value itself, so that the server
// can compare it.
func (c *codec) plain() bool { return c.ring == nil && !c.compress }

// encode returns what is stored for value under the key as stored. The result
// may share memory with value.
func (c *codec) encode(storedKey, value []byte) ([]byte, error) {
	switch {
	case c.ring != nil:
		return c.envelope.Seal(c.ring.Primary(), string(storedKey), value)
	case c.compress:
		return c.envelope.Compress(value)
	default:
		return value, nil
	}
}

// decode returns the value of what is stored. It may overwrite stored and
// return a part of it. The result is never nil without an error, so that an
// empty value can be told from a missing one.
func (c *codec) decode(storedKey, stored []byte) ([]byte, error) {
	value := stored
	var err error
	switch {
	case c.ring != nil:
		// A frame that is only compressed is as unproven as plaintext.
		if suite, serr := envelope.SuiteOf(stored); serr == nil && suite == envelope.NoSuite {
			return nil, ErrNotEncrypted
		}
		value, err = c.envelope.Open(c.ring, string(storedKey), stored)
	case c.compress:
		value, err = c.envelope.Decompress(stored)
	}
	if err != nil {
		return nil, err
	}
	if value == nil {
		value = []byte{}
	}
	return value, nil
}
