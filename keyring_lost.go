package etcd

import (
	"fmt"
	"slices"
	"strings"
)

// without returns the keys in use that a record lacks. A ring gives a key up in two
// changes: it is retired, then deleted. A key that is gone without having been seen
// retired was lost: another process changed a ring that never had it, because somebody or
// a restore of the cluster had put that ring back. Or both changes went unseen. The two
// cases look the same, and the key may be the last copy.
func (f *followed) without(record *storedRing) []storedKey {
	var out []storedKey
	if f.taken != nil {
		out = slices.Clone(f.taken.Keys)
	}
	out = append(out, f.missing...)
	return slices.DeleteFunc(out, func(k storedKey) bool { return !k.Retired.IsZero() || record.has(k.ID) })
}

// lacks returns an error that names the keys that the ring in use lacks.
func (f *followed) lacks() error {
	if len(f.missing) == 0 {
		return nil
	}
	ids := make([]string, len(f.missing))
	for i, k := range f.missing {
		ids[i] = k.ID[:8]
	}
	return fmt.Errorf("%w: it lacks %s, kept to decrypt", ErrKeyringReplaced, strings.Join(ids, ", "))
}

// keep keeps keys to decrypt, whichever ring is in use.
func (f *followed) keep(keys []*EncryptionKey) {
	for _, k := range keys {
		if !keyringHas(f.kept, k.ID()) {
			f.kept = append(f.kept, k)
		}
	}
}

// missing returns the keys that the ring in use lacks.
func (s *StoredKeyring) missing() []storedKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.followed().missing)
}

// decryptors returns former keys of a ring, to decrypt.
func decryptors(keys []storedKey) []*EncryptionKey {
	var out []*EncryptionKey
	for _, k := range keys {
		if key, err := NewEncryptionKey(k.Secret); err == nil { // they were keys of a ring before
			out = append(out, key)
		}
	}
	return out
}

// borrow records the keys of an older record that are used beside those of the ring: this
// process may write with them.
func (f *followed) borrow(record *storedRing) {
	f.missing = slices.DeleteFunc(f.missing, func(k storedKey) bool { return record.has(k.ID) })
	for _, k := range record.Keys {
		if k.Retired.IsZero() && !f.taken.has(k.ID) {
			f.missing = append(f.missing, k)
		}
	}
}
