package envelope

import "context"

// maxGCM is the longest plaintext of one GCM message, 2^36 - 32 bytes (NIST SP 800-38D, 5.2.1.1).
const maxGCM = 1<<36 - 32

// Seal encrypts value for the place etcdKey, which is the whole key as stored, with any namespace prefix. It
// compresses first where Params.CompressMin asks for it and at least an eighth is saved. A nil value is an empty one.
//
// The stored value is allocated in one piece of exact size; value is neither changed nor retained. A nil or zero key
// is ErrInvalidKey, a value past 64 GiB ErrValueTooLarge; an external AEAD's own error is under ErrKeyUnavailable. ctx
// bounds the call of an external AEAD and nothing else.
func (c *Codec) Seal(ctx context.Context, k *Key, etcdKey string, value []byte) ([]byte, error) {
	if !k.usable() {
		return nil, ErrInvalidKey
	}
	if uint64(len(value)) > maxGCM {
		return nil, ErrValueTooLarge
	}
	h := header{suite: k.suite}
	if !c.compresses(len(value)) {
		return c.seal(ctx, k, h, etcdKey, value)
	}
	packed := borrow()
	defer packed.release()
	packed.b = appendCompressed(packed.b, value)
	if !worthIt(len(packed.b), len(value)) {
		return c.seal(ctx, k, h, etcdKey, value)
	}
	h.compression = compressionZstd
	return c.seal(ctx, k, h, etcdKey, packed.b)
}

func (c *Codec) seal(ctx context.Context, k *Key, h header, etcdKey string, payload []byte) ([]byte, error) {
	switch secrets := k.secrets(); h.suite {
	case XAES256GCM:
		sealer, err := secrets.xaes.sealer()
		if err != nil {
			return nil, ErrInvalidKey
		}
		out := h.append(make([]byte, 0, Overhead(h.suite)+len(payload)), k.id)
		out = append(out, sealer.salt[:]...)
		ad := borrow()
		ad.b = c.associatedData(ad.b, out[:headerSize], etcdKey)
		out = sealer.aead.Seal(out, nil, payload, ad.b)
		ad.release()
		return out, nil
	case AES256GCM:
		out := h.append(make([]byte, 0, Overhead(h.suite)+len(payload)), k.id)
		ad := borrow()
		ad.b = c.associatedData(ad.b, out, etcdKey)
		out = secrets.gcm.sealer.Seal(out, nil, payload, ad.b)
		ad.release()
		return out, nil
	default:
		return c.sealExternal(ctx, k, h, etcdKey, payload)
	}
}

// sealExternal lends the foreign AEAD no pooled associated data: one that keeps it, against the rules, must not see it
// change.
func (c *Codec) sealExternal(ctx context.Context, k *Key, h header, etcdKey string, payload []byte) ([]byte, error) {
	head := h.append(make([]byte, 0, headerSize), k.id)
	sealed, err := k.secrets().external.encrypt(ctx, payload, c.associatedData(nil, head, etcdKey))
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, headerSize+len(sealed))
	return append(append(out, head...), sealed...), nil
}
