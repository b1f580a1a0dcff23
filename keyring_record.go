package etcd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// storedRing is the record that a [StoredKeyring] seals.
type storedRing struct {
	Version int `json:"version"`
	// Identity is made once and never changes: it distinguishes this ring from every
	// other one that the same outer key has sealed for the same place.
	Identity []byte `json:"identity"`
	// Generation goes up by one with each change.
	Generation int64       `json:"generation"`
	Primary    string      `json:"primary"`
	Keys       []storedKey `json:"keys"`
}

type storedKey struct {
	ID      string    `json:"id"`
	Secret  []byte    `json:"secret"`
	Created time.Time `json:"created"`
	// Promoted is when the key last became the primary; zero for never.
	Promoted time.Time `json:"promoted,omitzero"`
	// Retired is when the key was retired; zero while it is in use.
	Retired time.Time `json:"retired,omitzero"`
}

const (
	storedRingVersion = 1
	identitySize      = 16
)

// newStoredRing returns a ring of one new key.
func newStoredRing() (*storedRing, error) {
	r := &storedRing{Version: storedRingVersion, Identity: make([]byte, identitySize), Generation: 1}
	_, _ = rand.Read(r.Identity) // never fails: it ends the program instead
	id, err := r.add(GenerateKey())
	if err != nil {
		return nil, err
	}
	return r, r.promote(id)
}

// add puts a key into the ring.
func (r *storedRing) add(secret []byte) (KeyID, error) {
	key, err := NewEncryptionKey(secret)
	if err != nil {
		return KeyID{}, err
	}
	r.Keys = append(r.Keys, storedKey{ID: key.ID().Hex(), Secret: secret, Created: time.Now().UTC()})
	return key.ID(), nil
}

// promote makes a key the primary.
func (r *storedRing) promote(id KeyID) error {
	k, err := r.find(id)
	if err != nil {
		return err
	}
	if !k.Retired.IsZero() {
		return fmt.Errorf("%w: %s is retired", ErrInvalidArgument, id)
	}
	if r.Primary == k.ID {
		return errUnchanged
	}
	r.Primary, k.Promoted = k.ID, time.Now().UTC()
	return nil
}

// find returns a key of the ring.
func (r *storedRing) find(id KeyID) (*storedKey, error) {
	hex := id.Hex()
	for i := range r.Keys {
		if r.Keys[i].ID == hex {
			return &r.Keys[i], nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrUnknownKey, id)
}

func (r *storedRing) has(hex string) bool {
	return slices.ContainsFunc(r.Keys, func(k storedKey) bool { return k.ID == hex })
}

// encryptionKeys returns the keys that a process uses; retired ones only if it wants
// them.
func (r *storedRing) encryptionKeys(retired bool) (primary *EncryptionKey, others []*EncryptionKey, err error) {
	for _, k := range r.Keys {
		key, err := NewEncryptionKey(k.Secret)
		switch {
		case err != nil || key.ID().Hex() != k.ID:
			return nil, nil, ErrCorrupt
		case k.ID == r.Primary:
			primary = key
		case retired || k.Retired.IsZero():
			others = append(others, key)
		}
	}
	if primary == nil {
		return nil, nil, ErrCorrupt
	}
	return primary, others, nil
}

// with returns the next generation of a ring, with those of the keys that it lacks.
func (r *storedRing) with(keys []storedKey) *storedRing {
	next := r.clone()
	next.Generation++
	for _, k := range keys {
		if !next.has(k.ID) {
			next.Keys = append(next.Keys, k)
		}
	}
	return next
}

// errUnchanged says that a change would leave a record as it is.
var errUnchanged = errors.New("unchanged")

// info returns what may be shown of a record.
func (r *storedRing) info() KeyringInfo {
	out := KeyringInfo{Identity: hex.EncodeToString(r.Identity), Generation: r.Generation}
	for _, k := range r.Keys {
		info := KeyInfo{Primary: k.ID == r.Primary, Created: k.Created, Promoted: k.Promoted, Retired: k.Retired}
		_ = info.ID.UnmarshalText([]byte(k.ID)) // can't fail: it was checked or made here
		out.Keys = append(out.Keys, info)
	}
	return out
}

func (r *storedRing) clone() *storedRing {
	c := *r
	c.Keys = slices.Clone(r.Keys)
	return &c
}

// equal reports whether two records are the same ring after the same changes.
func (r *storedRing) equal(other *storedRing) bool {
	a, err := json.Marshal(r)
	if err != nil {
		return false
	}
	b, err := json.Marshal(other)
	return err == nil && bytes.Equal(a, b)
}

// refuses returns why a process that has r must not take next over by itself: it
// would lose keys that may be the last copies, or go back to keys that were retired.
func (r *storedRing) refuses(next *storedRing) error {
	var reason string
	switch {
	case !bytes.Equal(r.Identity, next.Identity):
		reason = "it is another ring"
	case next.Generation < r.Generation:
		reason = fmt.Sprintf("it is of generation %d, after %d", next.Generation, r.Generation)
	case next.Generation == r.Generation && !r.equal(next):
		reason = fmt.Sprintf("it is of generation %d too, with other keys", next.Generation)
	case !next.has(r.Primary):
		reason = "it lacks the primary key " + r.Primary[:8]
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", ErrKeyringReplaced, reason)
}

// supersededBy reports whether next has another primary key and may be a later state of
// r.
func (r *storedRing) supersededBy(next *storedRing) bool {
	return bytes.Equal(r.Identity, next.Identity) && next.Generation >= r.Generation && next.Primary != r.Primary
}

// seal returns the stored form of a record.
func (s *StoredKeyring) seal(ctx context.Context, r *storedRing) ([]byte, error) {
	plain, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.client.codec.bounded(ctx, s.client.cfg.RequestTimeout)
	defer cancel()
	return envelope.SealKeyring(ctx, s.outer, s.place, s.options.environment, plain)
}

// unseal opens a stored record. It leaves sealed unchanged.
func (s *StoredKeyring) unseal(ctx context.Context, sealed []byte) (*storedRing, error) {
	ctx, cancel := s.client.codec.bounded(ctx, s.client.cfg.RequestTimeout)
	defer cancel()
	plain, err := envelope.OpenKeyring(ctx, s.outer, s.place, s.options.environment, sealed)
	if err != nil {
		return nil, undecoded(s.key, err)
	}
	r := &storedRing{}
	err = json.Unmarshal(plain, r)
	switch {
	case err == nil && r.Version != storedRingVersion:
		return nil, &DecodeError{Key: s.key, Err: ErrUnsupportedFormat}
	case err != nil, len(r.Identity) != identitySize, r.Generation < 1:
		return nil, &DecodeError{Key: s.key, Err: ErrCorrupt} // the cause may quote a secret
	}
	if _, _, err := r.encryptionKeys(true); err != nil {
		return nil, &DecodeError{Key: s.key, Err: err}
	}
	return r, nil
}

// isUnopened reports whether err says that a record could not be opened.
func isUnopened(err error) bool {
	_, ok := errors.AsType[*DecodeError](err)
	return ok || errors.Is(err, ErrKeyUnavailable)
}
