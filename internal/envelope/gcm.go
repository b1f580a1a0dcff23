package envelope

import (
	"crypto/aes"
	"crypto/cipher"
)

// newSealer returns AES-256-GCM that draws a random nonce for each message and writes it before the ciphertext. The
// plain cipher.NewGCM is not available where only services approved by FIPS 140-3 may run.
func newSealer(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// opener decrypts nonce ‖ ciphertext ‖ tag under one key. Safe for concurrent use.
type opener struct {
	aead  cipher.AEAD
	moves bool // the AEAD takes the nonce from the message, and puts the plaintext in its place
}

// newOpener prefers plain GCM, since that can decrypt in place; the other form must move the ciphertext first, which
// costs up to a tenth of the time. Where GODEBUG=fips140=only refuses plain GCM there is no choice.
func newOpener(key []byte) (opener, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return opener{}, err
	}
	if plain, err := cipher.NewGCM(block); err == nil {
		return opener{aead: plain}, nil
	}
	random, err := cipher.NewGCMWithRandomNonce(block)
	return opener{aead: random, moves: true}, err
}

// open decrypts in place and returns the part of message that holds the plaintext. It overwrites message even when it
// fails. The check of the header has ensured that message is at least as long as nonce and tag.
func (o opener) open(message, associatedData []byte) ([]byte, error) {
	var plaintext []byte
	var err error
	if o.moves {
		plaintext, err = o.aead.Open(message[:0], nil, message, associatedData)
	} else {
		sealed := message[nonceSize:]
		plaintext, err = o.aead.Open(sealed[:0], message[:nonceSize], sealed, associatedData)
	}
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}

// directGCM is suite 01: one key, no salt.
type directGCM struct {
	sealer cipher.AEAD
	opener opener
}

func newDirectGCM(key []byte) (*directGCM, error) {
	sealer, err := newSealer(key)
	if err != nil {
		return nil, err
	}
	opener, err := newOpener(key)
	return &directGCM{sealer: sealer, opener: opener}, err
}
