package envelope_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math/bits"
	"slices"
)

// gcmSeal is AES-GCM after NIST SP 800-38D, bit by bit. It shares nothing with the implementation under test but the
// block cipher, takes any nonce, and works where the standard library refuses chosen nonces (GODEBUG=fips140=only).
func gcmSeal(key, nonce, plaintext, associatedData []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	var h, j0, mask [16]byte
	block.Encrypt(h[:], h[:])
	copy(j0[:], nonce)
	j0[15] = 1
	block.Encrypt(mask[:], j0[:])

	first := j0
	first[15] = 2
	out := make([]byte, len(plaintext))
	cipher.NewCTR(block, first[:]).XORKeyStream(out, plaintext)

	lengths := binary.BigEndian.AppendUint64(nil, uint64(len(associatedData))*8)
	lengths = binary.BigEndian.AppendUint64(lengths, uint64(len(plaintext))*8)
	tag := ghash(h, slices.Concat(padded(associatedData), padded(out), lengths))
	for i, m := range mask {
		tag[i] ^= m
	}
	return append(out, tag[:]...)
}

func padded(b []byte) []byte {
	return append(slices.Clone(b), make([]byte, -len(b)&15)...)
}

// ghash multiplies by h in GF(2^128), whose bits GCM counts from the left.
func ghash(h [16]byte, data []byte) [16]byte {
	hHi, hLo := binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:])
	var yHi, yLo uint64
	for ; len(data) > 0; data = data[16:] {
		yHi ^= binary.BigEndian.Uint64(data)
		yLo ^= binary.BigEndian.Uint64(data[8:])
		var zHi, zLo uint64
		vHi, vLo := hHi, hLo
		for i := range 128 {
			bit := bits.RotateLeft64(yHi, i+1) & 1
			if i >= 64 {
				bit = bits.RotateLeft64(yLo, i-63) & 1
			}
			zHi ^= vHi & -bit
			zLo ^= vLo & -bit
			carry := vLo & 1
			vLo = vLo>>1 | vHi<<63
			vHi = vHi>>1 ^ (0xe1<<56)&-carry
		}
		yHi, yLo = zHi, zLo
	}
	var out [16]byte
	binary.BigEndian.PutUint64(out[:], yHi)
	binary.BigEndian.PutUint64(out[8:], yLo)
	return out
}
