package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd"
)

// holding is what a key holds at a revision; the zero value means that it doesn't exist.
type holding struct {
	Value           string
	Create, Version int64
	Mod             int64
}

func (s holding) exists() bool { return s.Mod != 0 }

// fact is a change of one key as it happened. Now is what the key holds after it, Prev what
// it held before.
type fact struct {
	Key       string
	Revision  int64
	Now, Prev holding
}

func (f fact) String() string {
	return fmt.Sprintf("%s=%.20q@%d (before: %.20q@%d)", f.Key, f.Now.Value, f.Revision, f.Prev.Value, f.Prev.Mod)
}

// claim says that a write of some keys was acknowledged at a revision. Keys that were
// deleted hold nil.
type claim struct {
	revision int64
	keys     map[string]*string
}

// truth is the history of all keys of a cluster as it was, from one revision on. It knows
// every revision, so it has no gaps of its own.
type truth struct {
	mu    sync.Mutex
	grown chan struct{} // closed when it grows

	base    int64              // the revision that begins it
	state   map[string]holding // at base
	facts   []fact             // after base, in order
	starts  []int              // where the facts of base+1+i begin
	current map[string]holding // at the newest revision

	compacted int64 // what was asked to be compacted, at the most
	claims    []claim
	acked     int64    // the newest of them
	faults    []string // what can't be
}

// newTruth begins a history after revision, when nothing exists.
func newTruth(revision int64) *truth {
	return &truth{grown: make(chan struct{}), base: revision, state: map[string]holding{}, current: map[string]holding{}}
}

func (h *truth) lastLocked() int64 { return h.base + int64(len(h.starts)) }

// last returns the newest revision that is known, and a channel that is closed when a
// newer one is.
func (h *truth) last() (int64, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastLocked(), h.grown
}

// poke wakes those who wait for more.
func (h *truth) poke() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.grown)
	h.grown = make(chan struct{})
}

// size returns how many changes are known.
func (h *truth) size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.facts)
}

// add adds what a member has told of whole revisions, unless another one has told them
// before. It holds them against what was told before.
func (h *truth) add(evs []*mvccpb.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.lastLocked()
	for _, ev := range evs {
		if ev.Kv.ModRevision <= known {
			continue
		}
		f := fact{Key: string(ev.Kv.Key), Revision: ev.Kv.ModRevision, Prev: h.current[string(ev.Kv.Key)]}
		if f.Revision == h.lastLocked()+1 {
			h.starts = append(h.starts, len(h.facts))
		} else if f.Revision != h.lastLocked() {
			h.faults = append(h.faults, fmt.Sprintf("revision %d follows %d", f.Revision, h.lastLocked()))
		}
		if ev.Type == mvccpb.Event_PUT {
			f.Now = holding{Value: string(ev.Kv.Value), Create: ev.Kv.CreateRevision, Version: ev.Kv.Version, Mod: ev.Kv.ModRevision}
			want := holding{Value: f.Now.Value, Create: f.Revision, Version: 1, Mod: f.Revision}
			if f.Prev.exists() {
				want.Create, want.Version = f.Prev.Create, f.Prev.Version+1
			}
			if f.Now != want {
				h.faults = append(h.faults, fmt.Sprintf("%v can't be: %+v", f, f.Now))
			}
			h.current[f.Key] = f.Now
		} else {
			if !f.Prev.exists() {
				h.faults = append(h.faults, fmt.Sprintf("%v: nothing was there to be deleted", f))
			}
			delete(h.current, f.Key)
		}
		h.facts = append(h.facts, f)
	}
	close(h.grown)
	h.grown = make(chan struct{})
}

// acknowledged notes a write that succeeded.
func (h *truth) acknowledged(c claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.claims = append(h.claims, c)
	h.acked = max(h.acked, c.revision)
}

// promised returns the newest revision at which a write was acknowledged.
func (h *truth) promised() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acked
}

// compacting notes that the history before revision is about to be compacted.
func (h *truth) compacting(revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.compacted = max(h.compacted, revision)
}

// forget drops what happened up to revision, and what was acknowledged.
func (h *truth) forget(revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.from(revision + 1)
	apply(h.state, h.facts[:i])
	h.starts = slices.Clone(h.starts[revision-h.base:])
	for j := range h.starts {
		h.starts[j] -= i
	}
	h.facts, h.base, h.claims = slices.Clone(h.facts[i:]), revision, nil
}

// stateAt returns what all keys hold at a revision.
func (h *truth) stateAt(revision int64) map[string]holding {
	h.mu.Lock()
	defer h.mu.Unlock()
	state := maps.Clone(h.state)
	apply(state, h.facts[:h.from(revision+1)])
	return state
}

// ofRevision returns the changes of one revision.
func (h *truth) ofRevision(revision int64) []fact {
	i := int(revision - h.base - 1)
	if i < 0 || i >= len(h.starts) {
		return nil
	}
	if i+1 < len(h.starts) {
		return h.facts[h.starts[i]:h.starts[i+1]]
	}
	return h.facts[h.starts[i]:]
}

// from returns the index of the first change at or after a revision.
func (h *truth) from(revision int64) int {
	i := max(int(revision-h.base-1), 0)
	if i >= len(h.starts) {
		return len(h.facts)
	}
	return h.starts[i]
}

// content is what all keys of a reader hold at one revision.
type content struct {
	revision int64
	keys     map[string]holding
}

// check returns what is wrong with the history itself: what the server has told against
// itself, and acknowledged writes that are not in it.
func (h *truth) check() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	wrong := slices.Clone(h.faults)
	slices.SortStableFunc(h.claims, func(a, b claim) int { return int(a.revision - b.revision) })
	state, done := maps.Clone(h.state), h.base
	for _, c := range h.claims {
		if c.revision > h.lastLocked() {
			wrong = append(wrong, fmt.Sprintf("an acknowledged write is missing: revision %d is, after %d", c.revision, h.lastLocked()))
			break
		}
		for ; done < c.revision; done++ {
			apply(state, h.ofRevision(done+1))
		}
		for key, value := range c.keys {
			if now := state[key]; value == nil && now.exists() || value != nil && (now.Value != *value || now.Mod != c.revision) {
				wrong = append(wrong, fmt.Sprintf("an acknowledged write of %s at %d is missing", key, c.revision))
			}
		}
	}
	return wrong
}

func apply(state map[string]holding, facts []fact) {
	for _, f := range facts {
		if f.Now.exists() {
			state[f.Key] = f.Now
		} else {
			delete(state, f.Key)
		}
	}
}

// differ returns how a content differs from what it should be.
func differ(name string, revision int64, want, got map[string]holding) (wrong []string) {
	for key, now := range got {
		if was := want[key]; now != was {
			wrong = append(wrong, fmt.Sprintf("%s: wrong content at %d: %s is %+v and should be %+v", name, revision, key, now, was))
		}
	}
	for key, was := range want {
		if !got[key].exists() {
			wrong = append(wrong, fmt.Sprintf("%s: wrong content at %d: %s is missing, which is %+v", name, revision, key, was))
		}
	}
	return wrong
}

// checkContents returns where contents, each read at one moment, were not the server's at
// the revision that they name. They are of the keys that mine holds.
func (h *truth) checkContents(name string, mine func(key string) bool, contents []content) (wrong []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sorted := slices.Clone(contents)
	slices.SortStableFunc(sorted, func(a, b content) int { return int(a.revision - b.revision) })
	state, done := maps.Clone(h.state), h.base
	for _, c := range sorted {
		if c.revision < h.base || c.revision > h.lastLocked() {
			wrong = append(wrong, fmt.Sprintf("%s: content of revision %d, outside %d to %d", name, c.revision, h.base, h.lastLocked()))
			continue
		}
		for ; done < c.revision; done++ {
			apply(state, h.ofRevision(done+1))
		}
		want := make(map[string]holding, len(state))
		for key, s := range state {
			if mine(key) {
				want[key] = s
			}
		}
		wrong = append(wrong, differ(name, c.revision, want, c.keys)...)
	}
	return wrong
}

// holdingOf converts a key-value that a client has read.
func holdingOf(kv etcd.KeyValue) holding {
	return holding{Value: string(kv.Value), Create: kv.CreateRevision, Version: kv.Version, Mod: kv.ModRevision}
}

// ofPrefix tells keys with a prefix from others.
func ofPrefix(prefix string) func(key string) bool {
	return func(key string) bool { return strings.HasPrefix(key, prefix) }
}
