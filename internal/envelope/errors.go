package envelope

import "errors"

// Reasons to refuse a stored value or a key. Match them with errors.Is; their texts never contain plaintext,
// ciphertext or key material.
var (
	// ErrNotEncrypted means that the value does not begin with the magic, so it is not in this format.
	ErrNotEncrypted = errors.New("value is not encrypted")

	// ErrUnsupportedFormat means that the value has the magic, but a version, suite, flag or reserved byte that
	// version 1 does not know: it comes from a newer writer, or is damaged.
	ErrUnsupportedFormat = errors.New("value format is not supported")

	// ErrCorrupt means that the value is shorter than its suite allows, or does not decompress to what it announces.
	// Compare ErrDecrypt, which is for a value that fails authentication.
	ErrCorrupt = errors.New("value is corrupt")

	// ErrUnknownKey means that the ring has no key of the id that the value names.
	ErrUnknownKey = errors.New("value is encrypted with an unknown key")

	// ErrDecrypt means that the value does not open under its key. It doesn't distinguish a changed byte, another
	// etcd key, another context and a forged key id.
	ErrDecrypt = errors.New("value cannot be decrypted")

	// ErrKeyUnavailable means that a key outside of this process can't be reached, or does not work at the moment. It
	// says nothing about the value. Compare ErrDecrypt.
	ErrKeyUnavailable = errors.New("key is unavailable")

	// ErrValueTooLarge means that the decompressed value would exceed Params.MaxSize or an Allowance, or that the
	// value is longer than the cipher can encrypt.
	ErrValueTooLarge = errors.New("value is too large")

	// ErrInvalidKey means that the key material does not have 16 to 4096 bytes or is all zero, that an external key
	// has no AEAD, or that two keys of a ring have the same id.
	ErrInvalidKey = errors.New("key is not valid")
)
