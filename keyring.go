package etcd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// Keyring holds the keys of one or more clients: the primary, which encrypts, and others,
// which only decrypt. It may change while requests are under way: each request uses the
// keys of one moment, and readers take no lock. It is safe for concurrent use, and prints
// only the IDs of its keys. Make one with [NewKeyring]; the zero value has no keys, and
// [NewClient] refuses it.
//
// To rotate from key A to key B without downtime, finish each step on every instance
// before the next begins: primary A with B to decrypt; primary B with A to decrypt;
// [Client.Reencrypt]; primary B alone. docs/encryption.md describes it in full.
type Keyring struct {
	mu   sync.Mutex // serializes changes
	keys atomic.Pointer[keySet]
	// source supplies keys that the ring lacks, and knows whether the ring is current;
	// nil for a ring that only the caller changes.
	source keySource
}

// keySource is where a ring's keys come from, see [StoredKeyring].
type keySource interface {
	// fresh reports why the primary key must not be used any more.
	fresh(ctx context.Context) error
	// look makes the source read the keys.
	look(ctx context.Context) error
	// lacks returns why the ring still has no such key after a look that ended with err,
	// or nil if it has the key now.
	lacks(id KeyID, err error) error
	// upToDate reads the source and reports why the keys in use differ from it.
	upToDate(ctx context.Context) error
}

// keySet are the keys of a ring at one moment.
type keySet struct {
	primary *envelope.Key  // encrypts; may be nil
	ring    *envelope.Ring // decrypts
}

// emptyKeySet holds the keys of a ring that NewKeyring did not make.
var emptyKeySet = &keySet{}

// NewKeyring returns a ring of a primary key and others that only decrypt. A nil primary
// makes a ring that can only read: writes fail with [ErrNoPrimaryKey]. For a ring that
// can only write, pass one key, see [EncryptionKey.EncryptOnly]. It fails with
// [ErrInvalidKey] for no key at all, two keys with one ID, a zero-value key, and a key
// among others that may only encrypt.
func NewKeyring(primary *EncryptionKey, others ...*EncryptionKey) (*Keyring, error) {
	k := &Keyring{}
	if err := k.Replace(primary, others...); err != nil {
		return nil, err
	}
	return k, nil
}

// Replace changes the keys to these, all at once. It checks them as [NewKeyring] does. If
// it fails, the ring stays as it was.
func (k *Keyring) Replace(primary *EncryptionKey, others ...*EncryptionKey) error {
	next, err := newKeySet(primary, others)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys.Store(next)
	return nil
}

func newKeySet(primary *EncryptionKey, others []*EncryptionKey) (*keySet, error) {
	if primary == nil && len(others) == 0 {
		return nil, fmt.Errorf("%w: no key", ErrInvalidKey)
	}
	var next keySet
	var reading *envelope.Key // the primary, if it may decrypt
	if primary != nil {
		if !primary.usable() {
			return nil, fmt.Errorf("%w: zero key", ErrInvalidKey)
		}
		next.primary = primary.key
		if !primary.encryptOnly {
			reading = primary.key
		}
	}
	rest := make([]*envelope.Key, 0, len(others))
	for _, o := range others {
		switch {
		case !o.usable():
			return nil, fmt.Errorf("%w: zero key", ErrInvalidKey)
		case o.encryptOnly:
			return nil, fmt.Errorf("%w: %s may only encrypt and is not the primary", ErrInvalidKey, o.ID())
		case primary != nil && o.ID() == primary.ID():
			return nil, fmt.Errorf("%w: %s is in the ring twice", ErrInvalidKey, o.ID())
		}
		rest = append(rest, o.key)
	}
	var err error
	next.ring, err = envelope.NewRing(reading, rest...)
	return &next, err
}

// current returns the keys of this moment.
func (k *Keyring) current() *keySet {
	if k == nil {
		return emptyKeySet
	}
	if now := k.keys.Load(); now != nil {
		return now
	}
	return emptyKeySet
}

// encrypting returns the key that encrypts, or why there is none.
func (k *Keyring) encrypting(ctx context.Context) (*envelope.Key, error) {
	if err := k.fresh(ctx); err != nil {
		return nil, err
	}
	if primary := k.current().primary; primary != nil {
		return primary, nil
	}
	return nil, ErrNoPrimaryKey
}

// upToDate reads the ring's source, if it has one, and reports why the keys in use differ
// from it.
func (k *Keyring) upToDate(ctx context.Context) error {
	if k == nil || k.source == nil {
		return nil
	}
	return k.source.upToDate(ctx)
}

// fresh reports why the key that encrypts must not be used any more.
func (k *Keyring) fresh(ctx context.Context) error {
	if k.source == nil {
		return nil
	}
	return k.source.fresh(ctx)
}

// has reports whether the ring decrypts with the key of that ID.
func (k *Keyring) has(id KeyID) bool { return k.current().ring.Lookup(envelope.KeyID(id)) != nil }

// onlyWrites reports whether the ring has the key of that ID to encrypt and not to
// decrypt.
func (k *Keyring) onlyWrites(id KeyID) bool {
	now := k.current()
	return now.primary != nil && KeyID(now.primary.ID()) == id && now.ring.Lookup(envelope.KeyID(id)) == nil
}

// add puts a key that only decrypts into the ring, unless it is there.
func (k *Keyring) add(key *EncryptionKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.current()
	if k.has(key.ID()) {
		return nil
	}
	if key.encryptOnly || k.onlyWrites(key.ID()) {
		return fmt.Errorf("%w: %s may only encrypt", ErrUnknownKey, key.ID())
	}
	others := []*envelope.Key{key.key}
	for _, id := range now.ring.IDs() {
		if old := now.ring.Lookup(id); old != now.ring.Primary() {
			others = append(others, old)
		}
	}
	ring, err := envelope.NewRing(now.ring.Primary(), others...)
	if err != nil {
		return err
	}
	k.keys.Store(&keySet{primary: now.primary, ring: ring})
	return nil
}

// Primary returns the ID of the key that encrypts, or false if there is none.
func (k *Keyring) Primary() (KeyID, bool) {
	primary := k.current().primary
	if primary == nil {
		return KeyID{}, false
	}
	return KeyID(primary.ID()), true
}

// IDs returns the IDs of all keys that decrypt, sorted.
func (k *Keyring) IDs() []KeyID {
	var out []KeyID
	for _, id := range k.current().ring.IDs() {
		out = append(out, KeyID(id))
	}
	slices.SortFunc(out, func(a, b KeyID) int { return slices.Compare(a[:], b[:]) })
	return out
}

// String names the keys by the first digits of their IDs.
func (k *Keyring) String() string {
	primary := "none"
	if id, ok := k.Primary(); ok {
		primary = id.String()
	}
	return fmt.Sprintf("etcd.Keyring(primary %s, reads %v)", primary, k.IDs())
}

// Format writes String for every verb.
func (k *Keyring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText is String, for JSON and YAML. A ring can't be read back from it.
func (k *Keyring) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LogValue is String, for slog.
func (k *Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }
