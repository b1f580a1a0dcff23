package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// AddKey puts a new random key into the ring, to decrypt, and returns its ID: the first
// step of a rotation. Promote the key when every process has it.
//
// Like every change it takes at most two round trips and two calls of the outer key, or
// more while other processes change the ring at the same time. It is done once this
// process has taken the change over. If the stored ring is not the one that this process
// has, it fails with [ErrKeyringReplaced] and changes nothing.
func (s *StoredKeyring) AddKey(ctx context.Context) (KeyID, error) {
	secret := GenerateKey()
	var added KeyID
	err := s.change(ctx, "add key", func(r *storedRing) (err error) {
		added, err = r.add(secret)
		return err
	})
	return added, err
}

// Promote makes a key of the ring the primary. It fails with [ErrUnknownKey] when
// the ring has no such key, and with [ErrInvalidArgument] for a retired one.
func (s *StoredKeyring) Promote(ctx context.Context, id KeyID) error {
	return s.change(ctx, "promote key", func(r *storedRing) error { return r.promote(id) })
}

// change applies f to the stored ring, again if another process changed it meanwhile, and
// takes over the result.
func (s *StoredKeyring) change(ctx context.Context, op string, f func(*storedRing) error) error {
	return s.client.untilUncontested(ctx, request{op: op, key: s.key}, func(ctx context.Context) (bool, error) {
		v, err := s.read(ctx, op)
		if err != nil {
			return false, err
		}
		if err := s.judged(ctx, v); err != nil {
			return false, answered(op, s.key, err)
		}
		record, sealed := s.current()
		if !bytes.Equal(sealed, v.stored) {
			return false, nil // it has changed since
		}
		next := record.clone()
		switch err := f(next); {
		case errors.Is(err, errUnchanged):
			return true, nil
		case err != nil:
			return false, answered(op, s.key, err)
		}
		next.Generation++
		return s.store(ctx, op, next, v)
	})
}

// judged is judge for a caller, and updates Err.
func (s *StoredKeyring) judged(ctx context.Context, v sighting) error {
	err := s.judge(ctx, v)
	s.note(answered(opFollow, s.key, err))
	return err
}

// current returns the record in use, and its stored bytes.
func (s *StoredKeyring) current() (*storedRing, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.followed()
	return f.taken, f.sealed
}

// store stores a record in place of the sighting, and takes it over. It returns false if
// the stored ring has changed since.
func (s *StoredKeyring) store(ctx context.Context, op string, next *storedRing, v sighting) (bool, error) {
	sealed, err := s.proven(ctx, next)
	if err != nil {
		return false, answered(op, s.key, err)
	}
	return s.write(ctx, op, next, sealed, v)
}

// proven returns the bytes to store for a record, after opening them again.
func (s *StoredKeyring) proven(ctx context.Context, r *storedRing) ([]byte, error) {
	sealed, err := s.seal(ctx, r)
	if err != nil {
		return nil, err
	}
	opened, err := s.unseal(ctx, sealed)
	if err == nil && !opened.equal(r) {
		err = &DecodeError{Key: s.key, Err: ErrDecrypt}
	}
	return sealed, err
}

func (s *StoredKeyring) write(ctx context.Context, op string, next *storedRing, sealed []byte, v sighting) (bool, error) {
	// By value too: after a restore the same revision can come again with another value.
	txn := s.client.Txn().If(ModRevision(s.key).Equal(v.revision))
	put := OpPut(s.key, sealed)
	if v.stored != nil {
		txn.If(Value(s.key).Equal(v.stored))
		put = OpPut(s.key, sealed, WithIgnoreLease())
	}
	written := sighting{stored: sealed}
	written.sent = time.Now()
	res, err := s.client.commit(ctx, request{op: op, key: s.key}, txn.Then(put))
	if err != nil || !res.Succeeded {
		return false, err
	}
	written.revision, written.seen = res.Revision, res.Revision
	s.saw(res.Revision, false)
	if err := s.take(next, written); err != nil {
		return false, answered(op, s.key, err)
	}
	if record, _ := s.current(); !bytes.Equal(record.Identity, next.Identity) || record.Generation < next.Generation {
		return false, answered(op, s.key, fmt.Errorf("%w: while it was changed", ErrKeyringReplaced))
	}
	s.note(nil)
	return true, nil
}

// RestoreOption changes [StoredKeyring.Restore]: [WithReplacement].
type RestoreOption interface{ applyRestore(*restoreOptions) }

type restoreOptions struct{ replace bool }

type replacementOption struct{}

func (replacementOption) applyRestore(o *restoreOptions) { o.replace = true }

// WithReplacement lets [StoredKeyring.Restore] replace another ring, or one that does not
// open.
func WithReplacement() RestoreOption { return replacementOption{} }

// Restore stores the ring of this process again: after it was deleted, overwritten by an
// older one, or lost a change to a restore of the cluster. A running process may have the
// last copy of the keys. Nothing is lost: keys of an older ring that this one lacks are
// added, to decrypt. If the stored ring is the one of this process, or its next
// generation, which is then taken over, nothing is written unless it lacks keys that this
// process has kept ([StoredKeyring.Err]): these are put back, to decrypt.
//
// If another ring is stored, Restore fails with [ErrKeyringReplaced], and with a
// [*DecodeError] if the stored one does not open, unless [WithReplacement] is given: then
// the keys of the other ring are added too, so that what was written with them stays
// readable. The processes that use that ring must [StoredKeyring.Adopt] this one, or be
// restarted.
func (s *StoredKeyring) Restore(ctx context.Context, opts ...RestoreOption) error {
	const op = "restore keyring"
	var o restoreOptions
	if err := optionsOf(opts, &o, RestoreOption.applyRestore); err != nil {
		return fail(op, s.key, err)
	}
	return s.client.untilUncontested(ctx, request{op: op, key: s.key}, func(ctx context.Context) (bool, error) {
		v, err := s.read(ctx, op)
		if err != nil {
			return false, err
		}
		record, sealed := s.current()
		missing := s.missing()
		switch {
		case v.stored == nil && len(missing) == 0:
			return s.write(ctx, op, record, sealed, v)
		case bytes.Equal(sealed, v.stored) && len(missing) == 0:
			return true, answered(op, s.key, s.judged(ctx, v))
		case v.stored == nil, bytes.Equal(sealed, v.stored):
			return s.store(ctx, op, record.with(missing), v)
		}
		stored, err := s.unseal(ctx, v.stored)
		if err != nil {
			if !o.replace {
				return false, answered(op, s.key, err)
			}
			stored = record
		}
		refusal := record.refuses(stored)
		if refusal == nil && stored != record {
			// It is the next generation; try again if that lacks keys.
			err := s.judged(ctx, v)
			return err != nil || len(s.missing()) == 0, answered(op, s.key, err)
		}
		if !bytes.Equal(stored.Identity, record.Identity) && !o.replace {
			return false, answered(op, s.key, refusal)
		}
		next := record.with(append(missing, stored.Keys...))
		if bytes.Equal(stored.Identity, record.Identity) {
			next.Generation = max(record.Generation, stored.Generation) + 1
		}
		return s.store(ctx, op, next, v)
	})
}

// Adopt takes over whatever ring is stored, if outer opens it, even one that was refused
// ([ErrKeyringReplaced]). From then on this process encrypts with the primary key of that
// ring. Its former keys stay, to decrypt, for as long as the StoredKeyring lives:
// re-encrypt what is stored with them ([Client.Reencrypt]) before it ends. Otherwise
// their values are lost if this was the last process that had them. If the stored ring is
// in use already and lacks keys ([StoredKeyring.Err]), Adopt accepts that.
//
// It fails with [ErrKeyNotFound] when there is no ring.
func (s *StoredKeyring) Adopt(ctx context.Context) error {
	const op = "adopt keyring"
	return s.client.withDeadline(ctx, request{op: op, key: s.key}, func(ctx context.Context) error {
		v, err := s.read(ctx, op)
		if err != nil {
			return err
		}
		if v.stored == nil {
			return answered(op, s.key, ErrKeyNotFound)
		}
		record, err := s.unseal(ctx, v.stored)
		if err == nil {
			err = s.adopt(record, v)
		}
		if err != nil {
			return answered(op, s.key, err)
		}
		s.note(nil)
		return nil
	})
}

func (s *StoredKeyring) adopt(record *storedRing, v sighting) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.followed()
	if f.taken.refuses(record) != nil {
		primary, others, err := f.taken.encryptionKeys(s.options.retired)
		if err != nil {
			return &DecodeError{Key: s.key, Err: err}
		}
		f.keep(append(others, primary))
	}
	if err := s.install(record, v); err != nil {
		return err
	}
	f.keep(decryptors(f.missing))
	f.missing = nil // the caller has decided
	return nil
}

func keyringHas(keys []*EncryptionKey, id KeyID) bool {
	for _, k := range keys {
		if k.ID() == id {
			return true
		}
	}
	return false
}
