package live

import (
	"maps"
	"slices"
	"sync"
)

// state is what lies under the prefix at one revision.
type state struct {
	revision int64
	entries  map[string]entry // by key
	of       *pending         // nil for the first
}

// entry is a value, or why it could not be decoded.
type entry struct {
	value []byte
	err   error
}

// change is what a revision has done to a key. A nil entry means that it deleted it.
type change struct {
	key string
	now *entry
}

// Of what waits to be judged, so many revisions are kept, and so many bytes of values that
// they have replaced; the newest, and always the last one.
const (
	maxPending      = 1000
	maxPendingBytes = 16 << 20
)

// backlog holds the newest state, and how to get back to those before it that nobody has
// judged yet: if the newest is bad, one of them is the last good one. It is safe for
// concurrent use.
type backlog struct {
	arrived chan struct{} // holds one if something came

	mu      sync.Mutex
	now     map[string]entry
	pending []*pending // in order; the last one leads to now
	group   bool       // what arrives belongs to the last pending
}

// pending is a revision that waits to be judged, or was refused after one that waits.
type pending struct {
	revision int64
	undo     map[string]*entry // what it has replaced
	size     int               // bytes of its values
	refused  bool
}

// newBacklog begins with a state, which waits to be judged unless it was.
func newBacklog(first state, judged bool) *backlog {
	b := &backlog{arrived: make(chan struct{}, 1), now: maps.Clone(first.entries)}
	if b.now == nil {
		b.now = map[string]entry{}
	}
	if !judged {
		b.pending = []*pending{{revision: first.revision}}
		b.signal()
	}
	return b
}

func (b *backlog) signal() {
	select {
	case b.arrived <- struct{}{}:
	default:
	}
}

// add adds a revision. grouped says that it counts as one with the next, until they are
// cut.
func (b *backlog) add(revision int64, changes []change, grouped bool) {
	b.mu.Lock()
	var p *pending
	if b.group {
		p = b.pending[len(b.pending)-1]
		p.revision = revision
	} else {
		p = &pending{revision: revision, undo: map[string]*entry{}}
		b.pending = append(b.pending, p)
	}
	b.group = grouped
	for _, c := range changes {
		if _, known := p.undo[c.key]; !known {
			p.undo[c.key] = nil
			if before, ok := b.now[c.key]; ok {
				p.undo[c.key] = &before
				p.size += len(before.value)
			}
		}
		put(b.now, c.key, c.now)
	}
	b.trim()
	b.mu.Unlock()
	b.signal()
}

// trim forgets the oldest of too many. b.mu is held.
func (b *backlog) trim() {
	size := 0
	for i, p := range slices.Backward(b.pending) {
		size += p.size
		if kept := len(b.pending) - i; kept > 1 && (kept > maxPending || size > maxPendingBytes) {
			b.pending = b.pending[i+1:]
			return
		}
	}
}

// put sets a key to an entry; nil deletes it.
func put(entries map[string]entry, key string, e *entry) {
	if e == nil {
		delete(entries, key)
	} else {
		entries[key] = *e
	}
}

// isOpen reports whether more may belong to the newest revision.
func (b *backlog) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.group
}

// cut ends what counts as one revision.
func (b *backlog) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.group = false
}

// next returns the newest state that is to be judged, if there is one.
func (b *backlog) next() (state, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := len(b.pending) - 1
	if b.group {
		at-- // more belongs to it
	}
	for ; at >= 0 && b.pending[at].refused; at-- {
	}
	if at < 0 {
		if !b.group {
			b.pending = nil
		}
		return state{}, false
	}
	s := state{revision: b.pending[at].revision, entries: maps.Clone(b.now), of: b.pending[at]}
	for i := len(b.pending) - 1; i > at; i-- {
		for key, before := range b.pending[i].undo {
			put(s.entries, key, before)
		}
	}
	return s, true
}

// judged notes what became of a state, and reports whether a newer one was refused. A good
// one makes those before it void.
func (b *backlog) judged(s state, good bool) (refusedAfter bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := slices.Index(b.pending, s.of)
	if at < 0 { // the first, or one of too many
		return false
	}
	if s.of.refused = true; good {
		b.pending = b.pending[at+1:]
		at = -1
	}
	return slices.ContainsFunc(b.pending[at+1:], func(p *pending) bool { return p.refused })
}

// newest returns the revision of the newest state that nobody has judged; 0 if there is none.
func (b *backlog) newest() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range slices.Backward(b.pending) {
		if !p.refused {
			return p.revision
		}
	}
	return 0
}

// isNewest reports whether nothing came after a state.
func (b *backlog) isNewest(s state) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pending) == 0 || b.pending[len(b.pending)-1] == s.of
}
