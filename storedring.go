package etcd

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// storedRing is what a [StoredKeyring] seals.
type storedRing struct {
	Version int         `json:"version"`
	Primary string      `json:"primary"`
	Keys    []storedKey `json:"keys"`
}

type storedKey struct {
	Secret  []byte    `json:"secret"`
	Created time.Time `json:"created"`
}

const storedRingVersion = 1

// outerKeyID is the key ID in the frame of a stored ring: "etcd-keyring/v1" and a
// zero byte. Which outer key opens it is known to whoever opens it.
var outerKeyID = envelope.KeyID([]byte("etcd-keyring/v1\x00"))

// add puts a key into the ring.
func (r *storedRing) add(secret []byte) (KeyID, error) {
	key, err := NewEncryptionKey(secret)
	if err != nil {
		return KeyID{}, err
	}
	r.Keys = append(r.Keys, storedKey{Secret: secret, Created: time.Now().UTC()})
	return key.ID(), nil
}

// index returns where a key is in the ring, -1 for nowhere.
func (r *storedRing) index(id KeyID) int {
	return slices.IndexFunc(r.Keys, func(k storedKey) bool {
		key, err := NewEncryptionKey(k.Secret)
		return err == nil && key.ID() == id
	})
}

// keys returns the ring's keys.
func (r *storedRing) keys() (primary *EncryptionKey, others []*EncryptionKey, err error) {
	for _, k := range r.Keys {
		key, err := NewEncryptionKey(k.Secret)
		if err != nil {
			return nil, nil, err
		}
		if key.ID().Hex() == r.Primary {
			primary = key
		} else {
			others = append(others, key)
		}
	}
	if primary == nil {
		return nil, nil, ErrCorrupt
	}
	return primary, others, nil
}

// first returns a ring of one new key, sealed, and opened again for a proof that
// it can be.
func (s *StoredKeyring) first(ctx context.Context) (r *storedRing, sealed []byte, err error) {
	r = &storedRing{}
	id, err := r.add(GenerateKey())
	if err != nil {
		return nil, nil, err
	}
	r.Primary = id.Hex()
	if sealed, err = s.seal(ctx, r); err != nil {
		return nil, nil, err
	}
	_, err = s.unseal(ctx, slices.Clone(sealed))
	return r, sealed, err
}

func (s *StoredKeyring) seal(ctx context.Context, r *storedRing) ([]byte, error) {
	r.Version = storedRingVersion
	plain, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.client.codec.bounded(ctx, s.client.cfg.RequestTimeout)
	defer cancel()
	return s.codec.Seal(ctx, s.outer, s.place, plain)
}

// unseal works in place.
func (s *StoredKeyring) unseal(ctx context.Context, sealed []byte) (*storedRing, error) {
	// Open takes values that nothing protects as well: whoever can write to etcd
	// could plant keys of his own.
	if suite, err := envelope.SuiteOf(sealed); err == nil && suite == envelope.NoSuite {
		return nil, &DecodeError{Key: s.key, Err: ErrNotEncrypted}
	}
	ctx, cancel := s.client.codec.bounded(ctx, s.client.cfg.RequestTimeout)
	defer cancel()
	plain, err := s.codec.Open(ctx, s.opens, s.place, sealed, nil)
	if err != nil {
		return nil, undecoded(s.key, err)
	}
	r := &storedRing{}
	if err := json.Unmarshal(plain, r); err != nil {
		return nil, &DecodeError{Key: s.key, Err: ErrCorrupt} // the cause may quote a secret
	}
	if r.Version != storedRingVersion {
		return nil, &DecodeError{Key: s.key, Err: ErrUnsupportedFormat}
	}
	return r, nil
}
