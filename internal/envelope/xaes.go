package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// xaes derives the AES-256-GCM keys of XAES-256-GCM, as specified in https://c2sp.org/XAES-256-GCM: a counter-mode
// KDF of NIST SP 800-108r1 over CMAC (SP 800-38B). Here that comes down to three calls of the block cipher, one of
// them made once per key.
type xaes struct {
	block cipher.Block
	k1    [aes.BlockSize]byte // the CMAC subkey for whole blocks
}

func newXAES(key []byte) (*xaes, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.k1[:], x.k1[:])
	double(&x.k1)
	return x, nil
}

// subkey returns the key for nonces that begin with salt.
func (x *xaes) subkey(salt [saltSize]byte) []byte {
	key := make([]byte, 2*aes.BlockSize)
	for i := range 2 {
		half := key[i*aes.BlockSize:][:aes.BlockSize]
		half[1] = byte(i + 1) // the counter, in 16 bits
		half[2] = 'X'         // the label, closed by a zero byte
		copy(half[4:], salt[:])
		subtle.XORBytes(half, half, x.k1[:])
		x.block.Encrypt(half, half)
	}
	return key
}

// double multiplies by x in GF(2^128) with the polynomial of CMAC, in constant time: the block is secret.
func double(b *[aes.BlockSize]byte) {
	reduce := -(b[0] >> 7) & 0b10000111
	for i := range aes.BlockSize - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[aes.BlockSize-1] = b[aes.BlockSize-1]<<1 ^ reduce
}
