package envelope

import (
	"context"
	"encoding/binary"
)

// keyringDomain begins the associated data of every stored key ring, and names the version of this construction.
const keyringDomain = "etcd key ring 1"

// keyringID stands in the frame of a stored key ring. The opener already knows which outer key it needs.
var keyringID = KeyID([]byte("etcd-keyring/v1\x00"))

// SealKeyring encrypts the record of a key ring with an outer key, which is external, for the place etcdKey and a
// context that names the environment. The frame is that of suite 80, so that nobody takes a ring for a plain value;
// it is not authenticated, since it is the same in every ring. The associated data is
//
//	"etcd key ring 1" ‖ uint32(len(etcdKey)) ‖ etcdKey ‖ uint32(len(environment)) ‖ environment
func SealKeyring(ctx context.Context, outer *Key, etcdKey string, environment, record []byte) ([]byte, error) {
	if !outer.usable() || outer.suite != ExternalAEAD {
		return nil, ErrInvalidKey
	}
	sealed, err := outer.secrets().external.encrypt(ctx, record, keyringData(etcdKey, environment))
	if err != nil {
		return nil, err
	}
	out := header{suite: ExternalAEAD}.append(make([]byte, 0, headerSize+len(sealed)), keyringID)
	return append(out, sealed...), nil
}

// OpenKeyring decrypts the result of SealKeyring. Its errors are those of [Codec.Open]; a value that is not a ring
// fails with ErrNotEncrypted or ErrUnknownKey. It doesn't change stored.
func OpenKeyring(ctx context.Context, outer *Key, etcdKey string, environment, stored []byte) ([]byte, error) {
	if !outer.usable() || outer.suite != ExternalAEAD {
		return nil, ErrInvalidKey
	}
	h, err := parseHeader(stored)
	switch {
	case err != nil:
		return nil, err
	case h.suite == NoSuite:
		return nil, ErrNotEncrypted
	case h != header{suite: ExternalAEAD}:
		return nil, ErrUnsupportedFormat
	case keyIDIn(stored) != keyringID:
		return nil, ErrUnknownKey
	}
	return outer.secrets().external.decrypt(ctx, stored[headerSize:], keyringData(etcdKey, environment))
}

func keyringData(etcdKey string, environment []byte) []byte {
	ad := append([]byte(nil), keyringDomain...)
	ad = append(binary.BigEndian.AppendUint32(ad, uint32(len(etcdKey))), etcdKey...)
	return append(binary.BigEndian.AppendUint32(ad, uint32(len(environment))), environment...)
}
