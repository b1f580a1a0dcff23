package main

import (
	"encoding/binary"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/blueprint-go/etcd"
)

// keyID is the ID in etcd of a key in a Tink keyset. With one ID for each key, rather
// than one for the whole keyset, Reencrypt and EncryptionStatus can distinguish the
// values of an old key from those of a new one. For a keyset that is never rotated,
// Config.WithAEAD with any ID is enough.
func keyID(tinkID uint32) etcd.KeyID {
	id := etcd.KeyID([]byte("0000/tink-keyset"))
	binary.BigEndian.PutUint32(id[:], tinkID) // first: logs show the first four bytes
	return id
}

// tinkID undoes keyID.
func tinkID(id etcd.KeyID) uint32 { return binary.BigEndian.Uint32(id[:]) }

func newRing(keys *keyset.Manager) (*etcd.Keyring, error) {
	primary, others, err := ringKeys(keys)
	if err != nil {
		return nil, err
	}
	return etcd.NewKeyring(primary, others...)
}

// use makes the ring hold the enabled keys of the keyset, with its primary.
func use(ring *etcd.Keyring, keys *keyset.Manager) error {
	primary, others, err := ringKeys(keys)
	if err != nil {
		return err
	}
	return ring.Replace(primary, others...)
}

func ringKeys(keys *keyset.Manager) (primary *etcd.EncryptionKey, others []*etcd.EncryptionKey, err error) {
	handle, err := keys.Handle()
	if err != nil {
		return nil, nil, err
	}
	keysetAEAD, err := aead.New(handle)
	if err != nil {
		return nil, nil, err
	}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, nil, err
		}
		if entry.KeyStatus() != keyset.Enabled {
			continue
		}
		key, err := etcd.NewAEADKey(keyID(entry.KeyID()), keysetAEAD)
		if err != nil {
			return nil, nil, fmt.Errorf("key %d: %w", entry.KeyID(), err)
		}
		if entry.IsPrimary() {
			primary = key
		} else {
			others = append(others, key)
		}
	}
	return primary, others, nil
}
