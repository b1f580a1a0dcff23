package envelope

import "fmt"

// Ring is the set of keys of a client: a primary key that writes, and others that only read. It never changes, so it
// is safe for concurrent use; to rotate, make a new one. A nil ring has no keys.
type Ring struct {
	primary *Key
	ids     []KeyID
	keys    map[KeyID]*Key
}

// NewRing makes a ring. primary may be nil; then nothing can be written with the ring. It fails with ErrInvalidKey
// for two keys with the same id, and for a nil key among the others.
func NewRing(primary *Key, others ...*Key) (*Ring, error) {
	r := &Ring{primary: primary, keys: make(map[KeyID]*Key, 1+len(others))}
	if primary != nil {
		if err := r.add(primary); err != nil {
			return nil, err
		}
	}
	for _, k := range others {
		if err := r.add(k); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Ring) add(k *Key) error {
	if !k.usable() {
		return fmt.Errorf("%w: empty", ErrInvalidKey)
	}
	if _, twice := r.keys[k.id]; twice {
		return fmt.Errorf("%w: %s is in the ring twice", ErrInvalidKey, k.id)
	}
	r.keys[k.id] = k
	r.ids = append(r.ids, k.id)
	return nil
}

// Primary returns the key to write with, or nil if the ring only reads.
func (r *Ring) Primary() *Key {
	if r == nil {
		return nil
	}
	return r.primary
}

// Lookup returns the key of that id, or nil if the ring has none.
func (r *Ring) Lookup(id KeyID) *Key {
	if r == nil {
		return nil
	}
	// Nearly every value is under the primary key, and this comparison costs a tenth of hashing the id.
	if r.primary != nil && r.primary.id == id {
		return r.primary
	}
	return r.keys[id]
}

// IDs returns the ids of all keys: the primary's first, then the others' in the given order. The caller owns the
// slice.
func (r *Ring) IDs() []KeyID {
	if r == nil {
		return nil
	}
	return append([]KeyID(nil), r.ids...)
}
