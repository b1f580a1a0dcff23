package mirror

import (
	"context"
	"fmt"
	"iter"

	"github.com/blueprint-go/etcd"
)

// Typed is a [Mirror] of the values of one Go type, each of which is decoded once, when it
// arrives. What is said of Mirror holds for it. Keys are names here: those of the mirror
// without the prefix. Make one with [OpenTyped] and end it with [Typed.Close].
//
// The values are shared by all who read them: don't modify what they point to. The stored
// bytes stay in memory beside them.
type Typed[T any] struct {
	mirror *Mirror
	prefix string
}

// OpenTyped returns a mirror of the values of typed: see [Open]. A value that its encoding
// can't unmarshal counts as undecodable, also if the encoding panics: see [Typed.Bad]. The
// encoding is called in the goroutine of the mirror; it must not use the mirror. If it ends that
// goroutine ([runtime.Goexit]), the mirror ends: calls that wait, and loops over [Typed.Changes], fail
// with [etcd.ErrEncoding].
//
// The empty prefix is refused with [etcd.ErrEmptyPrefix] unless [WithAllKeys] is given, and
// values without a client or an encoding with [etcd.ErrInvalidArgument].
func OpenTyped[T any](ctx context.Context, typed *etcd.Typed[T], opts ...Option) (*Typed[T], error) {
	if typed == nil {
		return nil, &etcd.Error{Op: opOpen, Err: fmt.Errorf("%w: nil values", etcd.ErrInvalidArgument)}
	}
	decode := func(kv etcd.KeyValue) (any, error) {
		value, err := typed.Decode(kv)
		if err != nil {
			return nil, err
		}
		return &value, nil
	}
	m, err := open(ctx, typed.Client(), typed.Prefix(), decode, opts)
	if err != nil {
		return nil, err
	}
	return &Typed[T]{mirror: m, prefix: typed.Prefix()}, nil
}

// decoded returns the value of an entry; the zero value without one.
func decoded[T any](prefix string, e *entry) (out etcd.TypedValue[T]) {
	switch {
	case e == nil:
	case e.isGood():
		out = *e.extra.(*etcd.TypedValue[T])
	default:
		out.Name, out.ModRevision = e.kv.Key[len(prefix):], e.kv.ModRevision
	}
	return out
}

// Get returns the value of a name, and whether it exists: see [Mirror.Get].
func (t *Typed[T]) Get(name string) (etcd.TypedValue[T], bool) { return t.Snapshot().Get(name) }

// All returns the values in the order of their names: see [Mirror.All].
func (t *Typed[T]) All() iter.Seq[etcd.TypedValue[T]] { return t.Range("", "") }

// Range returns the values from a name up to but not including another: see
// [Mirror.Range].
func (t *Typed[T]) Range(from, to string) iter.Seq[etcd.TypedValue[T]] {
	return func(yield func(etcd.TypedValue[T]) bool) { t.Snapshot().Range(from, to)(yield) }
}

// Len returns how many values there are: see [Mirror.Len].
func (t *Typed[T]) Len() int { return t.mirror.Len() }

// Revision returns the revision up to which the mirror is complete: see [Mirror.Revision].
func (t *Typed[T]) Revision() int64 { return t.mirror.Revision() }

// Snapshot returns everything at one revision, the newest.
func (t *Typed[T]) Snapshot() TypedSnapshot[T] {
	return TypedSnapshot[T]{t.mirror.Snapshot(), t.prefix}
}

// WaitFor waits until the mirror is complete up to a revision: see [Mirror.WaitFor].
func (t *Typed[T]) WaitFor(ctx context.Context, revision int64) error {
	return t.mirror.WaitFor(ctx, revision)
}

// Fresh waits until the mirror holds everything that was acknowledged before the call: see
// [Mirror.Fresh].
func (t *Typed[T]) Fresh(ctx context.Context) error { return t.mirror.Fresh(ctx) }

// Status returns what is known of the mirror now: see [Mirror.Status].
func (t *Typed[T]) Status() Status { return t.mirror.Status() }

// Bad returns the names whose values could not be decoded, each with the reason: see
// [Mirror.Bad]. That of a value which its encoding can't unmarshal matches
// [etcd.ErrEncoding].
func (t *Typed[T]) Bad() map[string]error {
	out := map[string]error{}
	for key, err := range t.mirror.Bad() {
		out[key[len(t.prefix):]] = err
	}
	return out
}

// Close ends the mirror: see [Mirror.Close].
func (t *Typed[T]) Close() { t.mirror.Close() }

// TypedSnapshot is what a [Typed] held at one revision: see [Snapshot].
type TypedSnapshot[T any] struct {
	snapshot Snapshot
	prefix   string
}

// Get returns the value of a name, and whether it exists: see [Snapshot.Get].
func (s TypedSnapshot[T]) Get(name string) (etcd.TypedValue[T], bool) {
	if s.snapshot.state != nil {
		if e, ok := s.snapshot.state.named(name); ok {
			return decoded[T](s.prefix, e), true
		}
	}
	return etcd.TypedValue[T]{}, false
}

// All returns the values in the order of their names.
func (s TypedSnapshot[T]) All() iter.Seq[etcd.TypedValue[T]] { return s.Range("", "") }

// Range returns the values from a name up to but not including another: see
// [Snapshot.Range].
func (s TypedSnapshot[T]) Range(from, to string) iter.Seq[etcd.TypedValue[T]] {
	return func(yield func(etcd.TypedValue[T]) bool) {
		if s.snapshot.state == nil {
			return
		}
		if to != "" {
			to = s.prefix + to
		}
		for e := range s.snapshot.state.between(s.prefix+from, to) {
			if !yield(decoded[T](s.prefix, e)) {
				return
			}
		}
	}
}

// Len returns how many values there are.
func (s TypedSnapshot[T]) Len() int { return s.snapshot.Len() }

// Revision returns the revision of the store: see [Snapshot.Revision].
func (s TypedSnapshot[T]) Revision() int64 { return s.snapshot.Revision() }
