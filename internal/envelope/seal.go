package envelope

import "context"

// maxGCM is the longest plaintext of one GCM message, 2^36 - 32 bytes (NIST SP 800-38D, 5.2.1.1).
const maxGCM = 1<<36 - 32

// Seal encrypts value for the place etcdKey, the whole key as stored, with any namespace prefix. It compresses first
// if Params.CompressMin asks for that and it saves at least an eighth. A nil value means an empty one.
//
// It allocates the stored value in one piece of the exact size, and neither changes nor retains value. It fails with
// ErrInvalidKey for a nil or zero key, with ErrValueTooLarge for more than 64 GiB, and with ErrKeyUnavailable,
// wrapping the error, if an external AEAD fails. ctx only bounds the call of an external AEAD.
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

// sealExternal gives the foreign AEAD no pooled associated data: if the AEAD keeps it, against the rules, it must not
// see it change.
func (c *Codec) sealExternal(ctx context.Context, k *Key, h header, etcdKey string, payload []byte) ([]byte, error) {
	head := h.append(make([]byte, 0, headerSize), k.id)
	sealed, err := k.secrets().external.encrypt(ctx, payload, c.associatedData(nil, head, etcdKey))
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, headerSize+len(sealed))
	return append(append(out, head...), sealed...), nil
}
