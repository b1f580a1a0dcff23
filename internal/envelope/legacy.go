package envelope

import (
	"crypto/sha256"
	"fmt"
)

// LegacyReader opens the values of the Blueprint provider: nonce(12) ‖ ciphertext ‖ tag(16), AES-256-GCM under
// SHA-256 of the user's key, without associated data and without a marker. There is no writer, because the provider's
// nonces started over with each process. Safe for concurrent use.
type LegacyReader struct {
	// A function and not the cipher: code that prints a struct by reflection, past its methods, can't look into it.
	opener func() opener
}

// NewLegacyReader returns a reader for the user's key, of any length but 0. It fails with ErrInvalidKey for an empty
// one.
func NewLegacyReader(key []byte) (*LegacyReader, error) {
	if len(key) == 0 {
		return nil, fmt.Errorf("%w: empty legacy key", ErrInvalidKey)
	}
	hashed := sha256.Sum256(key)
	o, err := newOpener(hashed[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidKey, err)
	}
	return &LegacyReader{opener: func() opener { return o }}, nil
}

// Open decrypts a value. It doesn't change stored: a value that does not open may be of another kind. The error is
// ErrDecrypt.
func (r *LegacyReader) Open(stored []byte) ([]byte, error) {
	if len(stored) < nonceSize+tagSize {
		return nil, ErrDecrypt // there was no header to check
	}
	return r.opener().open(append([]byte(nil), stored...), nil)
}
