package mirror

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/blueprint-go/etcd"
)

var errBadValue = errors.New("bad value")

// history is a random history of a few keys, and what there was at each revision.
type history struct {
	responses []etcd.WatchResponse
	events    []*etcd.Event               // each once
	at        map[int64]map[string]string // of good values
	all       map[int64]map[string]string // with "bad" for the others
	last      int64
}

// newHistory makes one, and prints its seed.
func newHistory(t testing.TB, responses int) *history {
	seed := uint64(rand.Int64())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	h := &history{last: 1, at: map[int64]map[string]string{1: {}}, all: map[int64]map[string]string{1: {}}}
	now := map[string]etcd.KeyValue{}
	for range responses {
		var resp etcd.WatchResponse
		if len(h.events) > 0 && random.IntN(5) == 0 {
			resp.Events = append(resp.Events, h.events[random.IntN(len(h.events))]) // comes twice
		}
		for range random.IntN(4) {
			h.last += 1 + random.Int64N(3)
			used := map[string]bool{}
			for range 1 + random.IntN(4) {
				if ev := h.event(random, now, used); ev != nil {
					resp.Events = append(resp.Events, ev)
					h.events = append(h.events, ev)
				}
			}
			good, all := map[string]string{}, map[string]string{}
			for key, kv := range now {
				all[key] = "bad"
				if kv.Value != nil {
					good[key], all[key] = string(kv.Value), string(kv.Value)
				}
			}
			h.at[h.last], h.all[h.last] = good, all
		}
		resp.Revision = h.last
		if random.IntN(4) == 0 { // progress
			h.at[h.last+1], h.all[h.last+1] = h.at[h.last], h.all[h.last]
			h.last++
			resp.Revision = h.last
		}
		h.responses = append(h.responses, resp)
	}
	return h
}

// event makes a random change of now, of a key that the revision has not changed yet.
func (h *history) event(random *rand.Rand, now map[string]etcd.KeyValue, used map[string]bool) *etcd.Event {
	key := fmt.Sprintf("/p/%d", random.IntN(12))
	if random.IntN(3) == 0 {
		key = fmt.Sprintf("/p/\x00\xff%d", random.IntN(3))
	}
	if used[key] {
		return nil
	}
	used[key] = true
	kv, exists := now[key]
	switch n := random.IntN(10); {
	case n < 3 && exists:
		delete(now, key)
		return &etcd.Event{Type: etcd.EventDelete, Kv: &etcd.KeyValue{Key: key, ModRevision: h.last}}
	case n == 3: // the end of a claim of a lock, which was never shown
		gone := etcd.KeyValue{Key: "/p/lock\x000000000000000001", ModRevision: h.last}
		return &etcd.Event{Type: etcd.EventDelete, Kv: &gone}
	}
	if !exists {
		kv = etcd.KeyValue{Key: key, CreateRevision: h.last}
	}
	kv.ModRevision, kv.Version = h.last, kv.Version+1
	kv.Value = []byte(strings.Repeat("v", random.IntN(2)*random.IntN(40)) + fmt.Sprint(h.last))
	var err error
	if random.IntN(8) == 0 {
		kv.Value, err = nil, &etcd.DecodeError{Key: key, Err: errBadValue}
	} else if random.IntN(8) == 0 {
		kv.Value = []byte{}
	}
	now[key] = kv
	copied := kv
	return &etcd.Event{Kv: &copied, Err: err}
}

// newFed returns a mirror that gets what a test gives it.
func newFed() *Mirror {
	m := &Mirror{prefix: "/p/", readers: map[*reader]struct{}{}, waiters: map[*waiter]struct{}{}}
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	m.applied = newState(m.prefix, maphash.MakeSeed(), 1)
	m.current.Store(m.applied)
	return m
}

// isUnseen reports whether an event changes nothing that readers see.
func isUnseen(ev *etcd.Event) bool { return strings.Contains(ev.Kv.Key, "lock") }

// good returns what readers of a snapshot see.
func good(s Snapshot) map[string]string {
	out := map[string]string{}
	for kv := range s.All() {
		out[kv.Key] = string(kv.Value)
	}
	return out
}

// replica is what somebody makes of changes.
type replica struct {
	kvs     map[string]string
	pending bool
}

func newReplica() *replica { return &replica{kvs: map[string]string{}} }

// take applies a change, and fails if it doesn't fit what is there.
func (r *replica) take(t testing.TB, h *history, c Change) bool {
	had, exists := r.kvs[c.Key]
	ok := true
	expect := func(what string, is bool) {
		if !is {
			t.Errorf("%s: %s %q at %d, which was %q (%v)", what, c.Type, c.Key, c.Revision, had, exists)
			ok = false
		}
	}
	expect("old value", exists == (c.Type != Created) && (!exists || had == value(c.Old)))
	switch c.Type {
	case Created, Updated:
		expect("new value", c.New.Key == c.Key && (c.New.Value == nil) == (c.Err != nil))
		r.kvs[c.Key] = value(c.New)
	case Deleted:
		expect("deletion", c.New.Key == "" && c.Old.Key == c.Key)
		delete(r.kvs, c.Key)
	default:
		expect("type", false)
	}
	r.pending = c.More
	if !c.More {
		want, known := h.all[c.Revision]
		expect("revision", known && maps.Equal(want, r.kvs))
	}
	return ok
}

func value(kv etcd.KeyValue) string {
	if kv.Value == nil {
		return "bad"
	}
	return string(kv.Value)
}
