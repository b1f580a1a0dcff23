package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/mirror"
)

// faithfulChanges tells the truth between two revisions as a mirror should.
func faithfulChanges(h *truth, from, to int64) (all []mirror.Change) {
	short := func(key string) bool { return len(key) == 1 }
	for rev := from; rev <= to; rev++ {
		var block []mirror.Change
		for _, f := range h.ofRevision(rev) {
			if short(f.Key) {
				block = append(block, changeOf(f, rev))
			}
		}
		all = append(all, joinBlock(block)...)
	}
	return all
}

func joinBlock(block []mirror.Change) []mirror.Change {
	for i := range block {
		block[i].More = i+1 < len(block)
	}
	return block
}

func changeOf(f fact, revision int64) mirror.Change {
	c := mirror.Change{Type: mirror.Updated, Key: f.Key, Revision: revision}
	if f.Prev.exists() {
		c.Old = *keyValueOf(f.Key, f.Prev)
	} else {
		c.Type = mirror.Created
	}
	if f.Now.exists() {
		c.New = *keyValueOf(f.Key, f.Now)
	} else {
		c.Type = mirror.Deleted
	}
	return c
}

// resyncOf tells the differences between two revisions as a mirror should.
func resyncOf(h *truth, from, to int64) []mirror.Change {
	var block []mirror.Change
	for _, f := range h.difference(from, to, func(key string) bool { return len(key) == 1 }) {
		c := changeOf(f, to)
		c.Resync = true
		block = append(block, c)
	}
	return joinBlock(block)
}

// changeLies are accounts of watchScript that are false in one way each, with what the
// check calls that.
var changeLies = map[string]struct {
	lie  func(cs []mirror.Change) []mirror.Change
	kind string
}{
	"true":                     {func(cs []mirror.Change) []mirror.Change { return cs }, ""},
	"change left out":          {func(cs []mirror.Change) []mirror.Change { return slices.Delete(cs, 3, 4) }, "torn"},
	"revision left out":        {func(cs []mirror.Change) []mirror.Change { return slices.Delete(cs, 2, 3) }, "missing"},
	"end of the revision lost": {func(cs []mirror.Change) []mirror.Change { return slices.Delete(cs, 1, 2) }, "torn"},
	"not together":             {func(cs []mirror.Change) []mirror.Change { cs[0].More = false; return cs }, "torn"},
	"revision twice":           {func(cs []mirror.Change) []mirror.Change { return slices.Insert(cs, 3, cs[2]) }, "repeated"},
	"change twice":             {func(cs []mirror.Change) []mirror.Change { return slices.Insert(cs, 0, cs[0]) }, "invented"},
	"revisions turned":         {func(cs []mirror.Change) []mirror.Change { cs[2], cs[7] = cs[7], cs[2]; return cs[2:] }, "missing"},
	"invented":                 {func(cs []mirror.Change) []mirror.Change { cs[2].Key = "x"; return cs }, "invented"},
	"type":                     {func(cs []mirror.Change) []mirror.Change { cs[2].Type = mirror.Created; return cs }, "wrong type"},
	"value":                    {func(cs []mirror.Change) []mirror.Change { cs[2].New.Value = []byte("x"); return cs }, "wrong value"},
	"error":                    {func(cs []mirror.Change) []mirror.Change { cs[2].Err = etcd.ErrNotEncrypted; return cs }, "wrong value"},
	"expired":                  {func(cs []mirror.Change) []mirror.Change { cs[3].Expired = true; return cs }, "wrong value"},
	"key of the value":         {func(cs []mirror.Change) []mirror.Change { cs[2].New.Key = "b"; return cs }, "wrong value"},
	"no old value":             {func(cs []mirror.Change) []mirror.Change { cs[3].Old = etcd.KeyValue{}; return cs }, "wrong previous value"},
	"older value":              {func(cs []mirror.Change) []mirror.Change { cs[5].Old.Value = []byte("1"); return cs }, "wrong previous value"},
	"needless resync":          {func(cs []mirror.Change) []mirror.Change { cs[2].Resync = true; return cs }, "unneeded gap"},
	"future":                   {func(cs []mirror.Change) []mirror.Change { cs[2].Revision = 9; return cs }, "invented"},
}

func TestCheckOfChangesFindsEachViolation(t *testing.T) {
	t.Parallel()
	for name, test := range changeLies {
		t.Run(name, func(t *testing.T) {
			h := scripted(t, watchScript...)
			a := &changesAccount{name: name, mine: func(key string) bool { return len(key) == 1 }, position: 1}
			for _, c := range test.lie(faithfulChanges(h, 2, 8)) {
				a.add(h, c)
			}
			if test.kind == "" {
				require.Empty(t, a.wrong)
				require.EqualValues(t, 8, a.position)
				require.Equal(t, 10, a.told)
			} else {
				require.Contains(t, strings.Join(a.wrong, "\n"), name+": "+test.kind)
			}
		})
	}
}

func TestCheckOfChangesTakesTrueDifferencesOnly(t *testing.T) {
	t.Parallel()
	check := func(compacted int64, lossy bool, tell func(h *truth) []mirror.Change) string {
		h := scripted(t, watchScript...)
		h.compacting(compacted)
		a := &changesAccount{mine: func(key string) bool { return len(key) == 1 }, position: 2, lossy: lossy}
		for _, c := range tell(h) {
			a.add(h, c)
		}
		return strings.Join(a.wrong, "\n")
	}
	faithful := func(h *truth) []mirror.Change { return append(resyncOf(h, 2, 6), faithfulChanges(h, 7, 8)...) }
	require.Empty(t, check(6, false, faithful))
	require.Empty(t, check(0, true, faithful))
	require.Contains(t, check(0, false, faithful), "unneeded gap")
	// Nothing is left of c between 3 and 7 but its end.
	for name, lie := range map[string]func(h *truth) []mirror.Change{
		"missing":              func(h *truth) []mirror.Change { return joinBlock(resyncOf(h, 2, 6)[1:]) },
		"invented":             func(h *truth) []mirror.Change { return append(resyncOf(h, 2, 6), resyncOf(h, 2, 6)...) },
		"wrong previous value": func(h *truth) []mirror.Change { return relabelled(resyncOf(h, 3, 6)) },
		"wrong value":          func(h *truth) []mirror.Change { return relabelled(resyncOf(h, 2, 5)) },
	} {
		wrong := check(6, false, lie)
		if name == "invented" {
			require.Contains(t, wrong, "repeated")
		} else {
			require.Contains(t, wrong, name)
		}
	}
	// What cancels out may be passed over, and only after a compaction.
	h := scripted(t, "a=1", "b=1", "b-", "a=2")
	for compacted, clean := range map[int64]bool{0: false, 5: true} {
		h.compacting(compacted)
		a := &changesAccount{mine: func(string) bool { return true }, position: 2}
		a.add(h, faithfulChanges(h, 5, 5)[0])
		require.Equal(t, clean, len(a.wrong) == 0, a.wrong)
		h.compacted = 0
	}
	h = scripted(t, "a=1", "b=1", "b-", "b=2", "a=2")
	h.compacting(5)
	a := &changesAccount{mine: func(string) bool { return true }, position: 2}
	a.add(h, faithfulChanges(h, 6, 6)[0])
	require.NotEmpty(t, a.wrong)
}

// relabelled claims that differences were found at 6.
func relabelled(cs []mirror.Change) []mirror.Change {
	for i := range cs {
		cs[i].Revision = 6
	}
	return cs
}
