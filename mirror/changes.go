package mirror

import (
	"context"
	"iter"
)

// Changes returns the changes made after the call, with the values before and after, in
// order, each exactly once and all of a revision together. When the body of the loop gets
// a change, reads of the mirror include it.
//
// Where events are missing, the differences take their place, marked as Resync, deletions
// with their old values among them: after a compaction or a restore, and for a reader that
// is behind. The changes that wait for it are bounded by [WithChangesBuffer]. When they
// exceed it, the reader gets those that wait, and then the differences between the state
// after them and the one at that moment. So a slow reader misses intermediate values, but
// no final one, and delays nobody.
//
// The loop ends when ctx does. When the mirror or its client is closed, the last change is
// [Ended] with [etcd.ErrClosed]; for a nil context, a nil option or a bad one it is the
// only change. What is returned is for one loop: a further one gets nothing. Until the
// loop is left or ctx ends, changes are kept for it, also if it is never begun.
//
// The body runs in the caller's goroutine. It may use and close the mirror.
func (m *Mirror) Changes(ctx context.Context, opts ...ChangesOption) iter.Seq[Change] {
	r, err := m.newReader(ctx, opts)
	return func(yield func(Change) bool) {
		why := err
		if why == nil {
			why = r.run(func(rec record) bool { return yield(rec.change()) })
		}
		if why != nil {
			yield(Change{Err: m.fail(opChanges, why)})
		}
	}
}

const opChanges = "changes of mirror"
