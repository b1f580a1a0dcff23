package envelope

import "slices"

// Values of the source that tests hold the behaviour to.
const (
	SealsPerSalt     = sealsPerSalt
	CacheSize        = cacheSets * cacheWays
	HeaderSize       = headerSize
	MaxExternalCalls = maxExternalCalls
	SaltSize         = saltSize
	NonceSize        = nonceSize
)

// GCMSeal is AES-256-GCM with a nonce of the caller's choice, which the package itself never lets anyone choose.
type GCMSeal func(key, nonce, plaintext, associatedData []byte) []byte

// SealFixed is Codec.Seal with a fixed nonce (24 bytes in suite 02, 12 in suite 01), and a payload that is taken as it
// is, together with the flags to put beside it.
func (c *Codec) SealFixed(gcm GCMSeal, material []byte, s Suite, etcdKey string, flags byte, payload, nonce []byte) ([]byte, error) {
	d, err := derive(material)
	if err != nil {
		return nil, err
	}
	head := header{suite: s, compression: flags}.append(nil, d.id)
	ad := c.associatedData(nil, head, etcdKey)
	key, gcmNonce := d.gcm, nonce
	if s == XAES256GCM {
		if key, err = Subkey(d.xaes, nonce); err != nil {
			return nil, err
		}
		gcmNonce = nonce[saltSize:]
	}
	return slices.Concat(head, nonce, gcm(key, gcmNonce, payload, ad)), nil
}

// AssociatedData is what Seal authenticates beside the payload.
func (c *Codec) AssociatedData(header []byte, etcdKey string) []byte {
	return c.associatedData(nil, header, etcdKey)
}

// DerivedKeys returns what NewKey derives from material: the id, K_x and K_g.
func DerivedKeys(material []byte) (id KeyID, kx, kg []byte, err error) {
	d, err := derive(material)
	return d.id, d.xaes, d.gcm, err
}

// Subkey derives the GCM key of XAES-256-GCM for a nonce, or for the salt it begins with.
func Subkey(key, nonce []byte) ([]byte, error) {
	x, err := newXAES(key)
	if err != nil {
		return nil, err
	}
	return x.subkey([saltSize]byte(nonce)), nil
}

// OpenXAES decrypts salt ‖ nonce ‖ ciphertext ‖ tag in place, as values of suite 02 are.
func OpenXAES(key, message, associatedData []byte) ([]byte, error) {
	g, err := newSaltedGCM(key)
	if err != nil {
		return nil, err
	}
	return g.open(message, associatedData)
}

// OpenGCM decrypts nonce ‖ ciphertext ‖ tag in place, as values of suite 01 are.
func OpenGCM(key, message, associatedData []byte) ([]byte, error) {
	o, err := newOpener(key)
	if err != nil {
		return nil, err
	}
	return o.open(message, associatedData)
}

// CachedOpeners counts the derived keys that k keeps for reading.
func CachedOpeners(k *Key) int {
	n := 0
	table := &k.secrets().xaes.openers.table
	for i := range table {
		for j := range table[i] {
			if table[i][j].Load() != nil {
				n++
			}
		}
	}
	return n
}

// Cached reports whether k keeps the derived key of a stored value for reading.
func Cached(k *Key, stored []byte) bool {
	return k.secrets().xaes.openers.get(idOfSalt(stored[headerSize:])) != nil
}

// Reencode parses the header of stored and writes it again.
func Reencode(stored []byte) ([]byte, error) {
	h, err := parseHeader(stored)
	if err != nil {
		return nil, err
	}
	id, _ := KeyIDOf(stored)
	return h.append(nil, id), nil
}

// CMACSubkeys returns K1 and K2 of CMAC (NIST SP 800-38B, 6.1). XAES-256-GCM needs only the first.
func CMACSubkeys(key []byte) (k1, k2 [16]byte, err error) {
	x, err := newXAES(key)
	if err != nil {
		return k1, k2, err
	}
	k2 = x.k1
	double(&k2)
	return x.k1, k2, nil
}
