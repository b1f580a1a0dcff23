package mirror

import (
	"iter"
)

// record is a change as readers keep it.
type record struct {
	old, new *entry // nil if there was none, or is none
	revision int64
	found    bool // by comparing
	more     bool
	expired  bool
}

func (r *record) kind() ChangeType {
	switch {
	case r.old == nil:
		return Created
	case r.new == nil:
		return Deleted
	default:
		return Updated
	}
}

// bytes returns what a record counts.
func (r *record) bytes() int {
	n := 256
	for _, e := range []*entry{r.old, r.new} {
		if e != nil {
			n += len(e.kv.Key) + len(e.kv.Value)
		}
	}
	return n
}

// change returns the change of a record.
func (r *record) change() Change {
	out := Change{Type: r.kind(), Revision: r.revision, More: r.more, Resync: r.found, Expired: r.expired}
	if r.old != nil {
		out.Key, out.Old = r.old.kv.Key, r.old.kv
	}
	if r.new != nil {
		out.Key, out.New, out.Err = r.new.kv.Key, r.new.kv, r.new.failure()
	}
	return out
}

// together returns records with the note which of them belong together.
func together(records []record) iter.Seq[record] {
	return func(yield func(record) bool) {
		for i, rec := range records {
			rec.more = i+1 < len(records) && records[i+1].revision == rec.revision
			if !yield(rec) {
				return
			}
		}
	}
}
