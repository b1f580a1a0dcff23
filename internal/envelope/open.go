package envelope

import (
	"context"
	"fmt"
)

// Open decrypts what was stored at etcdKey, the whole key as stored, with any namespace prefix, and decompresses it.
// It also accepts suite 00, whose values nothing protects: a caller that requires encryption must ask [SuiteOf]
// first.
//
// Open works in place and owns stored from then on: the returned value is a part of it, unless that was compressed;
// then the value is the only allocation. Once the key is found, stored is overwritten even if Open fails. With every
// error up to and including ErrUnknownKey it is untouched, so that the same bytes can be tried with another ring.
//
// ctx only bounds the call of an external AEAD. The decompressed size is charged to a, which may be nil.
//
// The errors, in the order of the checks: ErrNotEncrypted without the magic, ErrUnsupportedFormat, ErrCorrupt for a
// value that is too short, ErrUnknownKey, ErrKeyUnavailable and ErrDecrypt, and for a compressed value
// ErrValueTooLarge and ErrCorrupt. Only an external AEAD causes ErrKeyUnavailable, which leaves stored untouched as
// well.
func (c *Codec) Open(ctx context.Context, r *Ring, etcdKey string, stored []byte, a *Allowance) ([]byte, error) {
	h, err := parseHeader(stored)
	if err != nil {
		return nil, err
	}
	payload := stored[prefixSize:]
	if h.suite != NoSuite {
		if payload, err = c.decrypt(ctx, r, h, etcdKey, stored); err != nil {
			return nil, err
		}
	}
	return c.unpack(h, payload, a)
}

func (c *Codec) decrypt(ctx context.Context, r *Ring, h header, etcdKey string, stored []byte) ([]byte, error) {
	id := keyIDIn(stored)
	k := r.Lookup(id)
	if k == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownKey, id)
	}
	secrets := k.secrets()
	if (h.suite == ExternalAEAD) != (secrets.external != nil) {
		return nil, ErrDecrypt // the id belongs to a key for another suite
	}
	if h.suite == ExternalAEAD {
		ad := c.associatedData(nil, stored[:headerSize], etcdKey)
		return secrets.external.decrypt(ctx, stored[headerSize:], ad)
	}
	ad := borrow()
	ad.b = c.associatedData(ad.b, stored[:headerSize], etcdKey)
	var payload []byte
	var err error
	if h.suite == AES256GCM {
		payload, err = secrets.gcm.opener.open(stored[headerSize:], ad.b)
	} else {
		payload, err = secrets.xaes.open(stored[headerSize:], ad.b)
	}
	ad.release()
	return payload, err
}

// unpack turns a payload into the value. It cuts the capacity, so that a caller's append can't write into the stored
// bytes behind the value.
func (c *Codec) unpack(h header, payload []byte, a *Allowance) ([]byte, error) {
	if h.compression == compressionNone {
		return payload[:len(payload):len(payload)], nil
	}
	return c.decompress(payload, a)
}
