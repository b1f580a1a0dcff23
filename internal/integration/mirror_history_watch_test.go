package integration

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd"
)

// scripted makes the truth of changes: each revision is a text like "a=1 b- c=2".
func scripted(t *testing.T, revisions ...string) *truth {
	t.Helper()
	h := newTruth(1)
	for _, text := range revisions {
		rev := h.lastLocked() + 1
		var evs []*mvccpb.Event
		for _, change := range strings.Fields(text) {
			key, value, put := strings.Cut(change, "=")
			if !put {
				evs = append(evs, &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(strings.TrimSuffix(key, "-")), ModRevision: rev}})
				continue
			}
			kv := &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: rev, CreateRevision: rev, Version: 1}
			if was := h.current[key]; was.exists() {
				kv.CreateRevision, kv.Version = was.Create, was.Version+1
			}
			evs = append(evs, &mvccpb.Event{Kv: kv})
		}
		h.add(evs)
	}
	require.Empty(t, h.check())
	return h
}

func keyValueOf(key string, s holding) *etcd.KeyValue {
	return &etcd.KeyValue{Key: key, Value: []byte(s.Value), CreateRevision: s.Create, ModRevision: s.Mod, Version: s.Version}
}

// faithful tells facts as a watch should that asks for previous values.
func faithful(facts []fact) (evs []*etcd.Event) {
	for _, f := range facts {
		e := &etcd.Event{Kv: keyValueOf(f.Key, f.Now)}
		if !f.Now.exists() {
			e.Type, e.Kv = etcd.EventDelete, &etcd.KeyValue{Key: f.Key, ModRevision: f.Revision}
		}
		if f.Prev.exists() {
			e.PrevKv = keyValueOf(f.Key, f.Prev)
		}
		evs = append(evs, e)
	}
	return evs
}

// toldOf tells the truth up to 7 in three responses, the last of which is progress.
func toldOf(h *truth) []etcd.WatchResponse {
	return []etcd.WatchResponse{
		{Revision: 3, Events: faithful(h.facts[:h.from(4)])},
		{Revision: 6, Events: faithful(h.facts[h.from(4):h.from(7)])},
		{Revision: 7},
	}
}

var watchScript = []string{"a=1 b=1", "a=2", "b- c=1", "a=3 c=2", "a- b=2", "other=1", "a=4"}

// lies are accounts that are false in one way each, with what the check calls that.
var lies = map[string]struct {
	lie  func(rs []etcd.WatchResponse) []etcd.WatchResponse
	kind string
}{
	"true":              {func(rs []etcd.WatchResponse) []etcd.WatchResponse { return rs }, ""},
	"response left out": {func(rs []etcd.WatchResponse) []etcd.WatchResponse { return slices.Delete(rs, 1, 2) }, "missing"},
	"event left out": {func(rs []etcd.WatchResponse) []etcd.WatchResponse {
		rs[1].Events = slices.Delete(rs[1].Events, 1, 2)
		return rs
	}, "missing"},
	"last of its revision left out": {func(rs []etcd.WatchResponse) []etcd.WatchResponse {
		rs[0].Events = rs[0].Events[:1]
		rs[0].Revision = 2
		return rs
	}, "torn"},
	"revision in two responses": {func(rs []etcd.WatchResponse) []etcd.WatchResponse {
		rest := rs[1].Events[1:]
		rs[1].Events, rs[1].Revision = rs[1].Events[:1], 4
		return slices.Insert(rs, 2, etcd.WatchResponse{Revision: 6, Events: rest})
	}, "torn"},
	"response twice": {func(rs []etcd.WatchResponse) []etcd.WatchResponse { return slices.Insert(rs, 1, rs[0]) }, "repeated"},
	"event twice": {func(rs []etcd.WatchResponse) []etcd.WatchResponse {
		rs[0].Events = append(rs[0].Events, rs[0].Events[2])
		return rs
	}, "invented"},
	"responses turned": {func(rs []etcd.WatchResponse) []etcd.WatchResponse { rs[0], rs[1] = rs[1], rs[0]; return rs }, "repeated"},
	"revisions turned": {func(rs []etcd.WatchResponse) []etcd.WatchResponse {
		evs := rs[0].Events
		rs[0].Events, rs[0].Revision = []*etcd.Event{evs[2], evs[0], evs[1]}, 2
		return rs
	}, "unordered"},
	"order within a revision": {func(rs []etcd.WatchResponse) []etcd.WatchResponse {
		evs := rs[0].Events
		evs[0], evs[1] = evs[1], evs[0]
		return rs
	}, "missing"},
	"value":   {func(rs []etcd.WatchResponse) []etcd.WatchResponse { rs[0].Events[1].Kv.Value = []byte("x"); return rs }, "wrong value"},
	"version": {func(rs []etcd.WatchResponse) []etcd.WatchResponse { rs[0].Events[1].Kv.Version++; return rs }, "wrong value"},
	"error": {func(rs []etcd.WatchResponse) []etcd.WatchResponse {
		rs[0].Events[1].Err = etcd.ErrNotEncrypted
		return rs
	}, "wrong value"},
	"type":              {func(rs []etcd.WatchResponse) []etcd.WatchResponse { rs[1].Events[0].Type = etcd.EventPut; return rs }, "wrong type"},
	"no previous value": {func(rs []etcd.WatchResponse) []etcd.WatchResponse { rs[1].Events[0].PrevKv = nil; return rs }, "wrong previous value"},
	"old previous value": {func(rs []etcd.WatchResponse) []etcd.WatchResponse {
		rs[1].Events[2].PrevKv.Value = []byte("1")
		return rs
	}, "wrong previous value"},
	"unasked key": {func(rs []etcd.WatchResponse) []etcd.WatchResponse {
		rs[2].Events = []*etcd.Event{{Kv: &etcd.KeyValue{Key: "other", Value: []byte("1"), CreateRevision: 7, ModRevision: 7, Version: 1}}}
		return rs
	}, "unasked"},
	"invented event": {func(rs []etcd.WatchResponse) []etcd.WatchResponse {
		rs[2].Events = []*etcd.Event{{Kv: &etcd.KeyValue{Key: "a", Value: []byte("1"), CreateRevision: 7, ModRevision: 7, Version: 1}}}
		return rs
	}, "invented"},
	"progress too far":         {func(rs []etcd.WatchResponse) []etcd.WatchResponse { rs[2].Revision = 8; return rs }, "missing"},
	"future progress":          {func(rs []etcd.WatchResponse) []etcd.WatchResponse { rs[2].Revision = 9; return rs }, "invented"},
	"revision of the response": {func(rs []etcd.WatchResponse) []etcd.WatchResponse { rs[0].Revision = 2; return rs }, "wrong revision"},
}

func TestCheckOfWatchesFindsEachViolation(t *testing.T) {
	t.Parallel()
	for name, test := range lies {
		t.Run(name, func(t *testing.T) {
			h := scripted(t, watchScript...)
			a := &watchAccount{name: name, mine: func(f fact) bool { return len(f.Key) == 1 }, prev: true, position: 1}
			for _, r := range test.lie(toldOf(h)) {
				a.add(h, r)
			}
			if test.kind == "" {
				require.Empty(t, a.wrong)
				require.EqualValues(t, 7, a.position)
				require.Equal(t, 9, a.told)
			} else {
				require.Contains(t, strings.Join(a.wrong, "\n"), name+": "+test.kind)
			}
		})
	}
}

// The names of what etcd's validators find.
func TestEtcdsValidatorsFindFalseAccounts(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"true":                      "",
		"event left out":            "Reliable",
		"revision in two responses": "Atomic",
		"event twice":               "Unique",
		"response twice":            "Ordered",
		"revisions turned":          "Ordered",
		"type":                      "Reliable",
		"old previous value":        "prevValue",
	} {
		t.Run(name, func(t *testing.T) {
			// The validators know prefixes, and no exceptions.
			h := scripted(t, "ka=1 kb=1", "ka=2", "kb- kc=1", "ka=3 kc=2", "ka- kb=2", "other=1", "ka=4")
			record := &watchRecord{key: "k", prefix: true, from: 2, responses: lies[name].lie(toldOf(h))}
			err := validateByEtcd(h, []*watchRecord{record})
			if want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestCheckOfWatchesTakesOnlyNeededGaps(t *testing.T) {
	t.Parallel()
	h := scripted(t, watchScript...)
	h.compacting(6)
	after := func(position, from int64) []string {
		a := &watchAccount{mine: func(fact) bool { return true }, prev: true, position: 3}
		a.compactedTo(h, position, from)
		rest := faithful(h.facts[h.from(from):])
		rest[0].PrevKv = nil // compacted
		a.add(h, etcd.WatchResponse{Revision: 8, Events: rest})
		return a.wrong
	}
	require.Empty(t, after(3, 6))
	require.Contains(t, after(2, 6)[0], "wrong revision")
	require.Contains(t, after(4, 6)[0], "missing")
	require.Contains(t, after(3, 7)[0], "unneeded gap")
	require.Contains(t, after(3, 4)[0], "unneeded gap")
}

func TestCheckOfResyncsTakesWhatExistsOnly(t *testing.T) {
	t.Parallel()
	check := func(compacted, revision int64, lie func(evs []*etcd.Event) []*etcd.Event) string {
		h := scripted(t, watchScript...)
		h.compacting(compacted)
		a := &watchAccount{mine: func(f fact) bool { return len(f.Key) == 1 }, position: 3}
		var evs []*etcd.Event
		for key, s := range h.stateAt(6) {
			evs = append(evs, &etcd.Event{Kv: keyValueOf(key, s)})
		}
		a.resynced(h, etcd.WatchResponse{Revision: revision, State: etcd.WatchResynced, Events: lie(evs)})
		a.add(h, etcd.WatchResponse{Revision: 8, Events: faithful(h.facts[h.from(8):])})
		return strings.Join(a.wrong, "\n")
	}
	truly := func(evs []*etcd.Event) []*etcd.Event { return evs }
	require.Empty(t, check(6, 6, truly))
	require.Empty(t, check(5, 6, truly))
	require.Contains(t, check(4, 6, truly), "unneeded gap")
	require.Contains(t, check(6, 5, truly), "wrong content")
	require.Contains(t, check(6, 2, truly), "invented")
	require.Contains(t, check(6, 6, func(evs []*etcd.Event) []*etcd.Event { return evs[1:] }), "wrong content")
	require.Contains(t, check(6, 6, func(evs []*etcd.Event) []*etcd.Event { evs[0].Kv.Version++; return evs }), "wrong content")
}

func TestCheckOfTheTruthFindsEachViolation(t *testing.T) {
	t.Parallel()
	put := func(key string, rev, create, version int64) *mvccpb.Event {
		return &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte(key), Value: []byte("v"), ModRevision: rev, CreateRevision: create, Version: version}}
	}
	for name, ev := range map[string]*mvccpb.Event{
		"a gap":              put("a", 10, 2, 4),
		"a wrong version":    put("b", 9, 6, 3),
		"a wrong creation":   put("b", 9, 9, 2),
		"a missing creation": put("new", 9, 8, 1),
		"nothing to delete":  {Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte("new"), ModRevision: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			h := scripted(t, watchScript...)
			h.add([]*mvccpb.Event{ev})
			require.NotEmpty(t, h.check())
		})
	}
	two, three := "2", "3"
	for name, c := range map[string]claim{
		"another value":    {3, map[string]*string{"a": &three}},
		"another revision": {4, map[string]*string{"a": &two}},
		"no deletion":      {5, map[string]*string{"a": nil}},
		"the future":       {9, map[string]*string{"a": nil}},
	} {
		t.Run("acknowledged: "+name, func(t *testing.T) {
			h := scripted(t, watchScript...)
			h.acknowledged(claim{3, map[string]*string{"a": &two}})
			h.acknowledged(claim{4, map[string]*string{"b": nil, "missing": nil}})
			require.Empty(t, h.check())
			h.acknowledged(c)
			require.NotEmpty(t, h.check())
		})
	}
}

func TestCheckOfContentsFindsEachDifference(t *testing.T) {
	t.Parallel()
	h := scripted(t, watchScript...)
	short := func(key string) bool { return len(key) == 1 }
	at := func(revision int64, change func(keys map[string]holding)) []string {
		keys := h.stateAt(revision)
		delete(keys, "other")
		change(keys)
		return h.checkContents("m", short, []content{{revision, keys}})
	}
	for rev := int64(1); rev <= 8; rev++ {
		require.Empty(t, at(rev, func(map[string]holding) {}))
	}
	require.NotEmpty(t, at(5, func(keys map[string]holding) { delete(keys, "a") }))
	require.NotEmpty(t, at(5, func(keys map[string]holding) { keys["b"] = holding{"1", 2, 1, 2} }))
	require.NotEmpty(t, at(5, func(keys map[string]holding) { keys["a"] = holding{"2", 2, 2, 3} }))
	require.NotEmpty(t, at(8, func(keys map[string]holding) { keys["other"] = holding{"1", 7, 1, 7} }))
	require.NotEmpty(t, h.checkContents("m", short, []content{{9, h.stateAt(8)}}))

	before := maps.Clone(h.stateAt(6))
	h.forget(6)
	require.Equal(t, before, h.stateAt(6))
	require.Empty(t, at(7, func(map[string]holding) {}))
	require.Equal(t, []string{"a"}, []string{h.ofRevision(8)[0].Key})
}
