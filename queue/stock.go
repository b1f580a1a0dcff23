package queue

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/blueprint-go/etcd"
)

// stock is what this process knows of the jobs that may be claimed, those at the head of the
// queue. Every Pop reads them first, and a claim that came too late brings them again.
//
// Consumers that all took the first job would get in each other's way. So a claim that came too
// late makes this process choose among more of those of the same priority, and one that was in
// time among fewer: a lone consumer takes them in their order.
type stock struct {
	layout layout
	// freed holds one if a candidate was given back that may be there yet: no event tells those
	// who wait.
	freed chan struct{}

	mu      sync.Mutex // guards what follows
	shelves []*shelf
	taken   map[string]bool   // keys that are being claimed by this process
	bids    map[string][]*bid // by the keys of the claims
	spread  int               // among how many a claim chooses
	scanned time.Time         // when the shelves were last read from their beginnings
	scan    time.Duration     // how long that took
}

// candidate is a job that may be claimed.
type candidate struct {
	key     string
	created int64 // the create revision of key
	entry   entry
}

// shelf is the head of a range of jobs that is in the order of time.
//
// The server steps over keys that were deleted, and counts those past the limit. So a shelf is
// read from a key before which nothing is left, and a long one only up to the key where the last
// wide look has ended, until few are left before that. Nothing is put in with a time before now,
// but for pushes that take their time, and clocks that differ: skew is allowed for, and what is
// older is found when the shelf is read from its beginning again.
type shelf struct {
	place      place
	prefix     string
	start      string // nothing is left before it
	bound      string // empty for the end of the range
	revision   int64  // at which it was read
	until      int64  // and up to which time, in Unix nanoseconds
	candidates []candidate
}

const (
	wideLimit   = 512  // how many candidates are read up to the end of the range
	narrowLimit = 32   // and up to a bound
	narrowCount = 1024 // more keys than that before a bound make a new one
	fewLeft     = 16   // fewer candidates before a bound than that remove it
	maxSpread   = 32

	skew = 2 * time.Second
	// Between two reads from the beginning; where nothing else is left, idlePause. If such a
	// read takes long, scanShare times as long passes.
	scanPause = time.Minute
	idlePause = time.Second
	scanShare = 100
)

func newStock(l layout) *stock {
	s := &stock{layout: l, freed: make(chan struct{}, 1), taken: map[string]bool{}, bids: map[string][]*bid{}, spread: 1}
	for priority := MaxPriority; priority >= MinPriority; priority-- {
		s.shelves = append(s.shelves, &shelf{place: ready, prefix: l.lane(priority)})
	}
	s.shelves = append(s.shelves, &shelf{place: delayed, prefix: l.under(delayed)})
	return s
}

// look is what the head of the queue is asked for, with what is known before.
type look struct {
	began  time.Time
	scan   bool     // from the beginnings
	wide   bool     // to the ends
	bounds []string // of the shelves
	ops    []etcd.Op
}

// looking returns the operations that read the head of the queue; to the ends of the ranges if
// wide is true.
func (s *stock) looking(wide bool) look {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := look{began: now(), wide: true}
	rest := scanPause
	if wide {
		rest = idlePause
	}
	if out.scan = time.Since(s.scanned) > max(rest, scanShare*s.scan); out.scan {
		s.scanned = time.Now() // others needn't
	}
	for _, sh := range s.shelves {
		if wide {
			sh.bound = ""
		}
		if out.scan || sh.start == "" {
			sh.start = sh.prefix
		}
		end, limit := endOf(sh.prefix), int64(narrowLimit)
		if sh.place == delayed {
			end = timeKey(sh.prefix, out.began)
		}
		if sh.bound == "" {
			limit = wideLimit
		} else {
			end, out.wide = min(end, sh.bound), false
		}
		out.bounds = append(out.bounds, sh.bound)
		out.ops = append(out.ops, etcd.OpListRange(sh.start, max(sh.start, end), etcd.WithLimit(limit)))
	}
	return out
}

// endOf returns the end of the range of a prefix that ends with a slash.
func endOf(prefix string) string { return prefix[:len(prefix)-1] + "0" }

// note takes over what a look has found, at a revision.
func (s *stock) note(l look, results []etcd.OpResult, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.scan {
		s.scan = time.Since(l.began)
	}
	for i, sh := range s.shelves {
		if revision >= sh.revision {
			sh.revision = revision
			sh.fill(s.layout, l, l.bounds[i], results[i])
		}
	}
}

func (sh *shelf) fill(l layout, from look, bound string, found etcd.OpResult) {
	base := l.under(sh.place)
	sh.candidates, sh.until = sh.candidates[:0], from.began.UnixNano()
	for _, kv := range found.KVs {
		if e, ok := parseEntry(sh.place, kv.Key[len(base):]); ok {
			sh.candidates = append(sh.candidates, candidate{kv.Key, kv.CreateRevision, e})
		}
	}
	more := found.Count > int64(len(found.KVs))
	switch {
	case more && (bound == "" || found.Count > narrowCount):
		sh.bound = found.KVs[len(found.KVs)-1].Key + "\x00"
	case !more && len(sh.candidates) < fewLeft:
		sh.bound = ""
	}
	sh.start = timeKey(sh.prefix, from.began.Add(-skew))
	switch {
	case len(sh.candidates) > 0:
		sh.start = min(sh.start, sh.candidates[0].key)
	case bound != "":
		sh.start = min(sh.start, bound)
	}
}

// take returns the job to claim next, and keeps other goroutines from it; false if none is
// known. The caller gives it back by settled.
func (s *stock) take() (candidate, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var free []candidate
	for _, sh := range s.shelves {
		for _, c := range sh.candidates {
			if !s.taken[c.key] {
				free = append(free, c)
			}
		}
	}
	if len(free) == 0 {
		return candidate{}, false
	}
	slices.SortFunc(free, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.entry.priority, a.entry.priority), cmp.Compare(a.entry.id, b.entry.id))
	})
	equals := slices.IndexFunc(free, func(c candidate) bool { return c.entry.priority != free[0].entry.priority })
	if equals < 0 {
		equals = len(free)
	}
	c := free[rand.IntN(min(s.spread, equals))]
	s.taken[c.key] = true
	return c, true
}

// outcome is what became of a claim.
type outcome int

const (
	inTime  outcome = iota // the job is ours
	tooLate                // another was there first
	unclear                // nobody knows yet
)

// settled gives back a candidate after the answer to its claim was noted.
func (s *stock) settled(c candidate, o outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.taken, c.key)
	switch o {
	case inTime:
		s.spread = max(s.spread-1, 1)
	case tooLate:
		s.spread = min(s.spread*2, maxSpread)
	}
	if o != unclear {
		s.drop(c.key)
		return
	}
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// bid says that a goroutine of this process asks for the claim with a key, or has it. Claims to
// one attempt have the same key, so that who finds that key must know whose it is.
type bid struct {
	from  int64 // the create revision of the candidate
	stale bool  // another goroutine has claimed that candidate, or knows a newer one
}

// bid notes that a goroutine is about to ask for the claim with a key; withdraw takes that back
// when the claim is over, or will not be.
func (s *stock) bid(key string, from candidate) *bid {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &bid{from: from.created}
	for _, other := range s.bids[key] {
		if other.from < b.from {
			other.stale = true
		} else {
			b.stale = true
		}
	}
	s.bids[key] = append(s.bids[key], b)
	return b
}

// isStale reports whether a claim by that bid can't have been made.
func (s *stock) isStale(b *bid) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return b.stale
}

func (s *stock) withdraw(key string, b *bid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bids[key] = slices.DeleteFunc(s.bids[key], func(other *bid) bool { return other == b })
	if len(s.bids[key]) == 0 {
		delete(s.bids, key)
	}
}

// add notes a job that has come, as a watch tells of it.
func (s *stock) add(c candidate, p place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.shelves[len(s.shelves)-1]
	if p == ready {
		sh = s.shelves[MaxPriority-c.entry.priority]
	}
	known := c.created <= sh.revision && c.entry.due < sh.until // else it wasn't due when others were read
	if known || len(sh.candidates) >= wideLimit {
		return // there is enough to do, if not that
	}
	sh.candidates = append(sh.candidates, c)
	sh.start = min(sh.start, c.key)
}

// gone notes that somebody took a job.
func (s *stock) gone(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(key)
}

// drop forgets a candidate. s.mu is held.
func (s *stock) drop(key string) {
	for _, sh := range s.shelves {
		sh.candidates = slices.DeleteFunc(sh.candidates, func(c candidate) bool { return c.key == key })
	}
}
