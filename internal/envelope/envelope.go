// Package envelope is the byte format of stored values: encrypted, compressed, or both. It knows neither etcd nor
// configuration; its caller decides which values must be encrypted, and with which ring of keys.
//
// To write an encrypted value use [Codec.Seal], to read one [Codec.Open]. Where large values are compressed but
// nothing is encrypted, use [Codec.Compress] and [Codec.Decompress] instead.
//
// A stored value is laid out like this; integers are big-endian:
//
//	 0        4         5       6       7          8        24                        end-16  end
//	┌────────┬─────────┬───────┬───────┬──────────┬────────┬───────┬─────────────────┬─────┐
//	│ magic  │ version │ suite │ flags │ reserved │ key id │ nonce │      body       │ tag │
//	│ FF ecv │   01    │       │       │    00    │   16   │       │                 │ 16  │
//	└────────┴─────────┴───────┴───────┴──────────┴────────┴───────┴─────────────────┴─────┘
//
//	suite 02  XAES-256-GCM   key id, nonce of 24 bytes (salt 12 ‖ GCM nonce 12), body, tag
//	suite 01  AES-256-GCM    key id, nonce of 12 bytes, body, tag
//	suite 80  external AEAD  key id, then whatever the AEAD returned
//	suite 00  none           the body follows the reserved byte at once
//
// The low four bits of flags name the compression of the payload: 0 none, 1 zstd. A compressed payload is
// uint32(original length) followed by exactly one zstd frame (RFC 8878) without a dictionary.
//
// The associated data of suites 01, 02 and 80 is value[0:24] ‖ uint32(len(context)) ‖ context ‖ etcd key. So the
// header can't be changed, and the value can't be moved to another key.
//
// Version 1 never changes: every later version of this package reads what this one wrote.
package envelope

import (
	"encoding/hex"
	"fmt"
)

const (
	magic   = "\xFFecv" // FF never occurs in UTF-8: no text value begins like this
	version = 1

	versionAt  = 4
	suiteAt    = 5
	flagsAt    = 6
	reservedAt = 7
	prefixSize = 8                      // up to the key id; the whole header in suite 00
	headerSize = prefixSize + keyIDSize // the authenticated header

	keyIDSize = 16
	saltSize  = 12
	nonceSize = 12
	tagSize   = 16
)

// Values of the flags byte. The upper four bits are zero in version 1, so a flags byte is a compression.
const (
	compressionNone byte = 0
	compressionZstd byte = 1
)

// Suite names the algorithm that protects a stored value: the byte at offset 5.
type Suite byte

// The suites of version 1.
const (
	NoSuite      Suite = 0x00 // not encrypted: compressed only, or framed because it began with the magic
	AES256GCM    Suite = 0x01 // AES-256-GCM with a random 12-byte nonce
	XAES256GCM   Suite = 0x02 // C2SP XAES-256-GCM, the default
	ExternalAEAD Suite = 0x80 // an AEAD given by the application
)

// String returns the algorithm's usual name.
func (s Suite) String() string {
	switch s {
	case NoSuite:
		return "none"
	case AES256GCM:
		return "AES-256-GCM"
	case XAES256GCM:
		return "XAES-256-GCM"
	case ExternalAEAD:
		return "external AEAD"
	default:
		return fmt.Sprintf("suite %#02x", byte(s))
	}
}

func (s Suite) known() bool {
	return s == XAES256GCM || s == AES256GCM || s == ExternalAEAD || s == NoSuite
}

// bodyAt is the offset of the body: the length of everything before it.
func (s Suite) bodyAt() int {
	switch s {
	case XAES256GCM:
		return headerSize + saltSize + nonceSize
	case AES256GCM:
		return headerSize + nonceSize
	case ExternalAEAD:
		return headerSize
	default:
		return prefixSize
	}
}

// Overhead returns by how many bytes a stored value is longer than its payload, which is also the least length of a
// stored value of that suite: 64 for XAES256GCM, 52 for AES256GCM, 8 for NoSuite. For ExternalAEAD it is 24, and the
// AEAD adds its own. For an unknown suite it is 0.
func Overhead(s Suite) int {
	switch s {
	case XAES256GCM, AES256GCM:
		return s.bodyAt() + tagSize
	case ExternalAEAD, NoSuite:
		return s.bodyAt()
	default:
		return 0
	}
}

// KeyID identifies a key. It is derived from the key, so the same key has the same id everywhere, and it reveals
// nothing about the key. Comparable; no key has the zero value.
type KeyID [keyIDSize]byte

// String returns the first eight hexadecimal digits: the form for logs.
func (id KeyID) String() string { return hex.EncodeToString(id[:4]) }

// IsEnvelope reports whether stored begins with the magic. Such a value must never be taken for a plain one.
func IsEnvelope(stored []byte) bool {
	return len(stored) >= len(magic) && string(stored[:len(magic)]) == magic
}

// SuiteOf returns the suite of a stored value. The error is the one that [Codec.Open] would give for the header:
// ErrNotEncrypted, ErrUnsupportedFormat or ErrCorrupt. It authenticates nothing.
func SuiteOf(stored []byte) (Suite, error) {
	h, err := parseHeader(stored)
	return h.suite, err
}

// KeyIDOf returns the id of the key that a stored value needs. It returns false if there is none: for a plain value,
// for suite 00, and if the header does not parse. It authenticates nothing.
func KeyIDOf(stored []byte) (KeyID, bool) {
	h, err := parseHeader(stored)
	if err != nil || h.suite == NoSuite {
		return KeyID{}, false
	}
	return keyIDIn(stored), true
}

// header is the content of the bytes before the key id.
type header struct {
	suite       Suite
	compression byte
}

// append writes the header: 24 bytes, or 8 in suite 00, which has no id.
func (h header) append(dst []byte, id KeyID) []byte {
	dst = append(dst, magic...)
	dst = append(dst, version, byte(h.suite), h.compression, 0)
	if h.suite == NoSuite {
		return dst
	}
	return append(dst, id[:]...)
}

// keyIDIn returns the id in a value whose header parsed and is not of suite 00.
func keyIDIn(stored []byte) KeyID { return KeyID(stored[prefixSize:headerSize]) }

// parseHeader makes every check that needs no key, in the format's order: it reports a byte that this version does
// not know even if the value is cut short behind it.
func parseHeader(stored []byte) (header, error) {
	if !IsEnvelope(stored) {
		return header{}, ErrNotEncrypted
	}
	if len(stored) < prefixSize {
		return header{}, checkPrefix(stored, ErrCorrupt)
	}
	h := header{suite: Suite(stored[suiteAt]), compression: stored[flagsAt]}
	if stored[versionAt] != version || stored[reservedAt] != 0 || !h.suite.known() || h.compression > compressionZstd {
		return header{}, checkPrefix(stored, ErrUnsupportedFormat)
	}
	if len(stored) < Overhead(h.suite) {
		return header{}, ErrCorrupt
	}
	return h, nil
}

// checkPrefix reports the first byte after the magic that version 1 does not know; without one it returns otherwise.
func checkPrefix(stored []byte, otherwise error) error {
	for at, b := range stored[:min(len(stored), prefixSize)] {
		known := true
		switch at {
		case versionAt:
			known = b == version
		case suiteAt:
			known = Suite(b).known()
		case flagsAt:
			known = b <= compressionZstd
		case reservedAt:
			known = b == 0
		}
		if !known {
			return fmt.Errorf("%w: byte %d is %#02x", ErrUnsupportedFormat, at, b)
		}
	}
	return otherwise
}
