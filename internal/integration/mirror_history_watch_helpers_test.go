package integration

import (
	"fmt"
	"maps"

	"github.com/blueprint-go/etcd"
)

// watchAccount is what one watch was told, held against the truth. It may be held several
// times while the watch goes on.
type watchAccount struct {
	name string
	mine func(f fact) bool // the changes that the watch asks for
	prev bool              // whether it asks for previous values

	position int64 // everything up to here was told, or named as lost
	told     int   // changes
	gaps     int   // that the watch has named
	wrong    []string
}

func (a *watchAccount) complain(kind, format string, args ...any) {
	a.wrong = append(a.wrong, a.name+": "+kind+": "+fmt.Sprintf(format, args...))
}

// add holds one response against the truth, which knows its revision.
func (a *watchAccount) add(h *truth, r etcd.WatchResponse) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Revision > h.lastLocked() {
		a.complain("invented", "revision %d, after the last one %d", r.Revision, h.lastLocked())
		return
	}
	if n := len(r.Events); n > 0 && r.Events[n-1].Kv.ModRevision != r.Revision {
		a.complain("wrong revision", "%d of events up to %d", r.Revision, r.Events[n-1].Kv.ModRevision)
	}
	i, last := h.from(a.position+1), a.position
	for _, e := range r.Events {
		a.told++
		rev := e.Kv.ModRevision
		if rev <= a.position {
			a.complain("repeated", "%s after %d", told(e), a.position)
			continue
		}
		if rev < last {
			a.complain("unordered", "%s after %d", told(e), last)
			continue
		}
		last = rev
		i = a.match(h, i, e)
	}
	for ; i < len(h.facts) && h.facts[i].Revision == last; i++ {
		if f := h.facts[i]; last > a.position && a.mine(f) {
			a.complain("torn", "%v, by a response up to %d", f, r.Revision)
		}
	}
	a.position = max(a.position, last)
	a.hold(h, r.Revision)
}

// hold holds that nothing is left to be told up to a revision.
func (a *watchAccount) hold(h *truth, revision int64) {
	if revision <= a.position {
		return
	}
	for _, f := range h.facts[h.from(a.position+1):h.from(revision+1)] {
		if a.mine(f) {
			a.complain("missing", "%v, up to %d", f, revision)
		}
	}
	a.position = revision
}

// match finds an event from fact i on, and returns the place behind it.
func (a *watchAccount) match(h *truth, i int, e *etcd.Event) int {
	for j := i; j < len(h.facts) && h.facts[j].Revision <= e.Kv.ModRevision; j++ {
		f := h.facts[j]
		if f.Revision == e.Kv.ModRevision && f.Key == e.Kv.Key {
			a.compare(h, f, e)
			return j + 1
		}
		if a.mine(f) {
			a.complain("missing", "%v, before %s", f, told(e))
		}
	}
	a.complain("invented", "%s", told(e))
	return max(i, h.from(e.Kv.ModRevision))
}

func (a *watchAccount) compare(h *truth, f fact, e *etcd.Event) {
	if !a.mine(f) {
		a.complain("unasked", "%v", f)
	}
	if e.Err != nil {
		a.complain("wrong value", "%v: %v", f, e.Err)
	}
	now := holdingOf(*e.Kv)
	if deleted := e.Type == etcd.EventDelete; deleted != !f.Now.exists() {
		a.complain("wrong type", "%s of %v", e.Type, f)
	} else if !deleted && now != f.Now || deleted && e.Kv.Value != nil {
		a.complain("wrong value", "%+v of %v", now, f)
	}
	if e.IsCreate() != (f.Now.exists() && !f.Prev.exists()) {
		a.complain("wrong type", "creation %t of %v", e.IsCreate(), f)
	}
	switch {
	case e.PrevKv != nil && (!a.prev || holdingOf(*e.PrevKv) != f.Prev):
		a.complain("wrong previous value", "%+v of %v", holdingOf(*e.PrevKv), f)
	case e.PrevKv == nil && a.prev && f.Prev.exists() && f.Revision-1 >= h.compacted:
		a.complain("wrong previous value", "none of %v, compacted is %d", f, h.compacted)
	}
}

// compactedTo says that the watch has named a gap: it was ended after position, and what
// it can tell begins at revision.
func (a *watchAccount) compactedTo(h *truth, position, revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if position < a.position || position > h.lastLocked() {
		a.complain("wrong revision", "ended at %d, and has told all up to %d", position, a.position)
	} else {
		a.hold(h, position) // it may know of progress that nobody asked for
	}
	if revision > h.compacted || revision <= a.position+1 {
		a.complain("unneeded gap", "to %d, after %d, compacted is %d", revision, a.position, h.compacted)
	}
	a.gaps++
	a.position = max(a.position, revision-1)
}

// resynced says that the watch has told what exists in place of what was compacted.
func (a *watchAccount) resynced(h *truth, r etcd.WatchResponse) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.compacted <= a.position+1 {
		a.complain("unneeded gap", "to %d, after %d, compacted is %d", r.Revision, a.position, h.compacted)
	}
	if r.Revision < a.position || r.Revision < h.base || r.Revision > h.lastLocked() {
		a.complain("invented", "what exists at %d, after %d", r.Revision, a.position)
		return
	}
	want, got := maps.Clone(h.state), map[string]holding{}
	apply(want, h.facts[:h.from(r.Revision+1)])
	for key, s := range want {
		if !a.mine(fact{Key: key, Revision: s.Mod, Now: s}) {
			delete(want, key)
		}
	}
	for _, e := range r.Events {
		got[e.Kv.Key] = holdingOf(*e.Kv)
	}
	a.wrong = append(a.wrong, differ(a.name, r.Revision, want, got)...)
	a.gaps++
	a.position = r.Revision
}

// at returns up to which revision everything was told.
func (a *watchAccount) at(h *truth) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return a.position
}

// violations returns what is wrong with the account so far.
func (a *watchAccount) violations(h *truth) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), a.wrong...)
}
