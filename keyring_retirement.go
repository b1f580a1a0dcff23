package etcd

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// DefaultRetireAge is how long the primary key must have been promoted before
// [StoredKeyring.RetireKey] retires earlier keys, unless [WithRetireAge] says otherwise
// or three times [WithKeyringFreshness] is longer. By then a process that did not learn
// of the promotion has stopped writing, and its writes under way have ended.
const DefaultRetireAge = 15 * time.Minute

// RetireOption changes [StoredKeyring.RetireKey] and [StoredKeyring.DeleteKey]:
// [WithRetireAge], [WithProof] and [WithoutProof].
type RetireOption interface{ applyRetire(*retireOptions) }

type retireOptions struct {
	age    time.Duration
	proofs []proof
	blind  bool
}

// proof is a place where no value of the key may be left.
type proof struct {
	client *Client
	prefix string
}

type retireOption func(*retireOptions)

func (f retireOption) applyRetire(o *retireOptions) { f(o) }

// WithRetireAge sets how long the primary key must have been promoted. It must cover
// [WithKeyringFreshness], the longest deadline of a write, and the differences between
// the clocks of the processes. Zero means that the caller knows that every process has
// the primary key, and that no earlier write is under way.
func WithRetireAge(d time.Duration) RetireOption {
	return retireOption(func(o *retireOptions) { o.age = d })
}

// WithProof names where values of the key could be: under prefixes, as client sees them,
// or under all keys if none is given. It can be given several times. Without it, that is
// everything that the client of the ring itself sees.
func WithProof(client *Client, prefixes ...string) RetireOption {
	if len(prefixes) == 0 {
		prefixes = []string{""}
	}
	prefixes = slices.Clone(prefixes)
	return retireOption(func(o *retireOptions) {
		for _, p := range prefixes {
			o.proofs = append(o.proofs, proof{client, p})
		}
	})
}

// WithoutProof skips the search for values of the key: the caller knows that none is
// left, by [Client.EncryptionStatus] for example, or gives them up.
func WithoutProof() RetireOption {
	return retireOption(func(o *retireOptions) { o.blind = true })
}

// RetireKey takes a key out of use: it no longer encrypts, and no longer decrypts except
// in processes [WithRetiredKeys]. It stays sealed in the stored ring, so that
// [StoredKeyring.ReinstateKey] can bring it back until [StoredKeyring.DeleteKey] deletes
// it.
//
// It fails with [ErrKeyInUse], and changes nothing, while the primary key's promotion is
// younger than [DefaultRetireAge], or if a value of the key is left. To find that out it
// calls [Client.EncryptionStatus], which reads all values, see there. See
// [WithRetireAge], [WithProof] and [WithoutProof].
//
// It fails with [ErrUnknownKey] when the ring has no such key, and with
// [ErrInvalidArgument] for the primary. Retiring a retired key does nothing.
func (s *StoredKeyring) RetireKey(ctx context.Context, id KeyID, opts ...RetireOption) error {
	return s.withdraw(ctx, "retire key", id, opts, func(r *storedRing) error {
		k, err := r.find(id)
		switch {
		case err != nil:
			return err
		case k.ID == r.Primary:
			return fmt.Errorf("%w: %s is the primary key", ErrInvalidArgument, id)
		case !k.Retired.IsZero():
			return errUnchanged
		}
		k.Retired = time.Now().UTC()
		return nil
	})
}

// DeleteKey takes a retired key out of the ring for good: what it encrypted can't be read
// any more, not even from backups, unless the key is kept elsewhere. It makes the same
// checks as [StoredKeyring.RetireKey] and fails in the same way; for a key that is not
// retired it fails with [ErrInvalidArgument]. A process that saw neither the retirement
// nor the deletion keeps the key to decrypt, and reports that in [StoredKeyring.Err].
func (s *StoredKeyring) DeleteKey(ctx context.Context, id KeyID, opts ...RetireOption) error {
	return s.withdraw(ctx, "delete key", id, opts, func(r *storedRing) error {
		k, err := r.find(id)
		if err == nil && k.Retired.IsZero() {
			err = fmt.Errorf("%w: %s is not retired", ErrInvalidArgument, id)
		}
		if err == nil {
			r.Keys = slices.DeleteFunc(r.Keys, func(other storedKey) bool { return other.ID == k.ID })
		}
		return err
	})
}

// ReinstateKey brings a retired key back, to decrypt. It fails with [ErrUnknownKey] when
// the ring has no such key, and does nothing for one that is in use.
func (s *StoredKeyring) ReinstateKey(ctx context.Context, id KeyID) error {
	return s.change(ctx, "reinstate key", func(r *storedRing) error {
		k, err := r.find(id)
		switch {
		case err != nil:
			return err
		case k.Retired.IsZero():
			return errUnchanged
		}
		k.Retired = time.Time{}
		return nil
	})
}

// withdraw makes a change that can lose the values of a key.
func (s *StoredKeyring) withdraw(ctx context.Context, op string, id KeyID, opts []RetireOption, f func(*storedRing) error) error {
	o := retireOptions{age: max(DefaultRetireAge, 3*s.options.freshness)}
	err := optionsOf(opts, &o, RetireOption.applyRetire)
	if err == nil {
		err = o.check(s.client)
	}
	if err != nil {
		return fail(op, s.key, err)
	}
	checked := func(r *storedRing) error {
		err := f(r)
		if err == nil {
			err = o.aged(r)
		}
		return err
	}
	// Do the long search only if nothing else is in the way.
	done := true
	err = s.change(ctx, op, func(r *storedRing) error {
		if err := checked(r); err != nil {
			return err
		}
		done = false
		return errUnchanged
	})
	if err != nil || done {
		return err
	}
	if err := o.prove(ctx, id); err != nil {
		return answered(op, s.key, err)
	}
	return s.change(ctx, op, checked)
}

func (o *retireOptions) check(client *Client) error {
	if o.age < 0 {
		return fmt.Errorf("%w: negative age", ErrInvalidArgument)
	}
	for _, p := range o.proofs {
		if p.client.Raw() == nil {
			return fmt.Errorf("%w: nil client, or a zero one", ErrInvalidArgument)
		}
	}
	if len(o.proofs) == 0 && !o.blind {
		o.proofs = []proof{{client, ""}}
	}
	return nil
}

// aged returns an error while any process may still write with a key older than the
// primary.
func (o *retireOptions) aged(r *storedRing) error {
	primary := r.Keys[slices.IndexFunc(r.Keys, func(k storedKey) bool { return k.ID == r.Primary })]
	if age := time.Since(primary.Promoted); age < o.age {
		return fmt.Errorf("%w: the primary key was promoted %v ago, want %v", ErrKeyInUse, age.Round(time.Second), o.age)
	}
	return nil
}

// prove returns an error if it finds values of a key.
func (o *retireOptions) prove(ctx context.Context, id KeyID) error {
	for _, p := range o.proofs {
		status, err := p.client.EncryptionStatus(ctx, p.prefix)
		if err != nil {
			return err
		}
		if n := status.ByKey[id]; n > 0 {
			return fmt.Errorf("%w: %d values of %s under %q", ErrKeyInUse, n, id, p.prefix)
		}
	}
	return nil
}
