package envelope

import "errors"

// What a stored value or a key can be refused for. Match them with errors.Is; none carries plaintext, ciphertext or
// key material in its text.
var (
	// ErrNotEncrypted: the value does not begin with the magic, so it is not one of this format.
	ErrNotEncrypted = errors.New("value is not encrypted")

	// ErrUnsupportedFormat: the value has the magic, but a version, suite, flag or reserved byte unknown to version 1:
	// a newer writer, or damage.
	ErrUnsupportedFormat = errors.New("value format is not supported")

	// ErrCorrupt: the value is shorter than its suite allows, or what it holds does not decompress to what it
	// announces. Compare ErrDecrypt, which is the one for a value that fails authentication.
	ErrCorrupt = errors.New("value is corrupt")

	// ErrUnknownKey: the ring has no key of the id the value names.
	ErrUnknownKey = errors.New("value is encrypted with an unknown key")

	// ErrDecrypt: the value does not open under its key. A changed byte, another etcd key, another context and a forged
	// key id are not told apart.
	ErrDecrypt = errors.New("value cannot be decrypted")

	// ErrKeyUnavailable: a key outside of this process can't be reached, or does not work at the moment. It says nothing
	// about the value. Compare ErrDecrypt.
	ErrKeyUnavailable = errors.New("key is unavailable")

	// ErrValueTooLarge: the decompressed value would exceed Params.MaxSize or an Allowance, or the value is longer than
	// the cipher can encrypt.
	ErrValueTooLarge = errors.New("value is too large")

	// ErrInvalidKey: the key material has not 16 to 4096 bytes or is all zero, an external key has no AEAD, or two keys
	// of a ring have the same id.
	ErrInvalidKey = errors.New("key is not valid")
)
