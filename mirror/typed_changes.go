package mirror

import (
	"context"
	"iter"

	"github.com/blueprint-go/etcd"
)

// TypedChange is a [Change] of one name. Values are shared: don't modify what they point
// to.
type TypedChange[T any] struct {
	// Type says what happened.
	Type ChangeType
	// Name is the key without the prefix.
	Name string
	// Old is the value before the change; the zero TypedValue if there was none. If it
	// could not be decoded, its Value is the zero value of T.
	Old etcd.TypedValue[T]
	// New is the value after the change; the zero TypedValue if the name was deleted. If
	// Err is set, its Value is the zero value of T.
	New etcd.TypedValue[T]
	// Revision, More, Resync and Expired are those of [Change].
	Revision int64
	More     bool
	Resync   bool
	Expired  bool
	// Err is why the new value could not be decoded. With [Ended] it is why there are no
	// more changes.
	Err error
}

// Changes returns the changes made after the call: see [Mirror.Changes].
func (t *Typed[T]) Changes(ctx context.Context, opts ...ChangesOption) iter.Seq[TypedChange[T]] {
	r, err := t.mirror.newReader(ctx, opts)
	return func(yield func(TypedChange[T]) bool) {
		why := err
		if why == nil {
			why = r.run(func(rec record) bool { return yield(t.change(rec)) })
		}
		if why != nil {
			yield(TypedChange[T]{Err: t.mirror.fail(opChanges, why)})
		}
	}
}

func (t *Typed[T]) change(rec record) TypedChange[T] {
	c := rec.change()
	return TypedChange[T]{
		Type: c.Type, Name: c.Key[len(t.prefix):],
		Old: decoded[T](t.prefix, rec.old), New: decoded[T](t.prefix, rec.new),
		Revision: c.Revision, More: c.More, Resync: c.Resync, Expired: c.Expired, Err: c.Err,
	}
}
