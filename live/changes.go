package live

import (
	"context"
	"iter"

	"github.com/blueprint-go/etcd"
)

// Change is the step from one configuration to another.
type Change[T any] struct {
	// Old is the configuration before. It is shared: don't modify it.
	Old *T
	// New is the configuration now; the same as Old if Err is set. It is shared: don't
	// modify it.
	New *T
	// Revision is the revision of etcd that New is of.
	Revision int64
	// Fields are the paths of the fields that differ, such as "Server.Port", in order: the
	// names as T spells them, or its tags. They hold no values, so that they may be logged; a
	// map or a list is one field. It is empty only if Err is set.
	Fields []string
	// Err is why there are no more changes, in the last one of a loop that its context has
	// not ended.
	Err error
}

// Changes returns the changes after the call. A loop that is slower than the changes gets
// those between them as one: it never misses the newest configuration, and holds up nobody
// and no memory. Configurations that were refused don't show; neither does a revision that
// changes no field of T.
//
// To apply every configuration, call Changes first, then apply Load, then loop.
//
// The loop ends when ctx does. When the value or its client is closed, it gets the step to
// what Load returns from then on, if there is one left, and then a last change that has
// [etcd.ErrClosed] as its Err; for a nil context, the only one has [etcd.ErrNilContext].
// What is returned may be used for several loops, each from the call on. The body runs in
// the caller's goroutine, and may use and close the value.
func (v *Value[T]) Changes(ctx context.Context) iter.Seq[Change[T]] {
	from := v.current.Load()
	return func(yield func(Change[T]) bool) {
		at := from // for another loop it begins there again
		ended := func(err error) {
			yield(Change[T]{Old: at.value, New: at.value, Revision: at.revision, Err: v.fail(opChanges, err)})
		}
		if ctx == nil {
			ended(etcd.ErrNilContext)
			return
		}
		for ctx.Err() == nil {
			select {
			case <-at.replaced:
			case <-ctx.Done():
				return
			case <-v.ctx.Done():
				if v.current.Load() == at {
					ended(context.Cause(v.ctx))
					return
				}
			}
			now := v.current.Load()
			c := Change[T]{Old: at.value, New: now.value, Revision: now.revision}
			c.Fields = differ(v.builder.shape, c.Old, c.New)
			at = now
			if len(c.Fields) > 0 && !yield(c) {
				return
			}
		}
	}
}

// Rejections returns why configurations were refused after the call, for the log. A loop
// that is slower than they are gets the newest. It ends when ctx does, or when the value or
// its client is closed; with a nil context it is empty. The body runs in the caller's
// goroutine, and may use and close the value.
func (v *Value[T]) Rejections(ctx context.Context) iter.Seq[*RejectedError] {
	from, next := v.rejected()
	return func(yield func(*RejectedError) bool) {
		last, told := from, next // for another loop it begins there again
		for ctx != nil && ctx.Err() == nil {
			select {
			case <-told:
			case <-ctx.Done():
				return
			case <-v.ctx.Done():
				return
			}
			var now *RejectedError
			if now, told = v.rejected(); now != nil && now != last && !yield(now) {
				return
			}
			last = now
		}
	}
}

// rejected returns the newest refusal, and what is closed at the next one.
func (v *Value[T]) rejected() (*RejectedError, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.newest, v.told
}
