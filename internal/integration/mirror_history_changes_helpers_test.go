package integration

import (
	"fmt"
	"iter"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/mirror"
)

// changesAccount is what a reader of a mirror's changes was told, held against the truth.
type changesAccount struct {
	name string
	mine func(key string) bool
	// lossy says that the reader may be behind, so that differences may come at any time,
	// and not only where history was compacted.
	lossy bool

	position int64           // up to here everything was told
	block    []mirror.Change // of a revision that goes on
	told     int
	resyncs  int
	wrong    []string
}

func (a *changesAccount) complain(kind, format string, args ...any) {
	a.wrong = append(a.wrong, a.name+": "+kind+": "+fmt.Sprintf(format, args...))
}

func toldChange(c mirror.Change) string {
	return fmt.Sprintf("%s %s=%.20q@%d (resync %t, more %t)", c.Type, c.Key, c.New.Value, c.Revision, c.Resync, c.More)
}

// add holds one change against the truth, which knows its revision.
func (a *changesAccount) add(h *truth, c mirror.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a.told++
	if c.Revision > h.lastLocked() {
		a.complain("invented", "%s after the last revision %d", toldChange(c), h.lastLocked())
		return
	}
	if len(a.block) > 0 && (c.Revision != a.block[0].Revision || c.Resync != a.block[0].Resync) {
		a.complain("torn", "%s in the middle of %s", toldChange(c), toldChange(a.block[0]))
		a.endBlock(h)
	}
	a.block = append(a.block, c)
	if !c.More {
		a.endBlock(h)
	}
}

// endBlock holds the changes of one revision against the truth.
func (a *changesAccount) endBlock(h *truth) {
	block, rev := a.block, a.block[0].Revision
	a.block = nil
	if rev <= a.position {
		a.complain("repeated", "%s after %d", toldChange(block[0]), a.position)
		return
	}
	want := map[string]fact{}
	if block[0].Resync {
		a.resyncs++
		if !a.mayResync(h) {
			a.complain("unneeded gap", "%s after %d, compacted is %d", toldChange(block[0]), a.position, h.compacted)
		}
		want = h.difference(a.position, rev, a.mine)
	} else {
		a.passOver(h, rev)
		for _, f := range h.ofRevision(rev) {
			if a.mine(f.Key) {
				want[f.Key] = f
			}
		}
	}
	for _, c := range block {
		f, ok := want[c.Key]
		if !ok {
			a.complain("invented", "%s", toldChange(c))
			continue
		}
		delete(want, c.Key)
		a.compare(f, c)
	}
	for _, f := range want {
		kind := "torn"
		if block[0].Resync {
			kind = "missing"
		}
		a.complain(kind, "%v, of %s", f, toldChange(block[0]))
	}
	a.position = rev
}

// mayResync reports whether differences may take the place of events now.
func (a *changesAccount) mayResync(h *truth) bool { return a.lossy || h.compacted > a.position }

// passOver holds that nothing happened between the position and rev, or only what cancels
// out and was compacted before it could be told.
func (a *changesAccount) passOver(h *truth, rev int64) {
	facts := h.facts[h.from(a.position+1):h.from(rev)]
	for _, f := range facts {
		if !a.mine(f.Key) {
			continue
		}
		if !a.mayResync(h) || len(h.difference(a.position, rev-1, a.mine)) > 0 {
			a.complain("missing", "%v, before revision %d", f, rev)
		}
		return
	}
}

func (a *changesAccount) compare(f fact, c mirror.Change) {
	want := mirror.Updated
	switch {
	case !f.Prev.exists():
		want = mirror.Created
	case !f.Now.exists():
		want = mirror.Deleted
	}
	if c.Type != want {
		a.complain("wrong type", "%s is %s", toldChange(c), want)
	}
	if holdingOf(c.New) != f.Now {
		a.complain("wrong value", "%s is %v", toldChange(c), f)
	}
	if holdingOf(c.Old) != f.Prev {
		a.complain("wrong previous value", "%q@%d of %s is %v", c.Old.Value, c.Old.ModRevision, toldChange(c), f)
	}
	if c.Err != nil || c.Expired {
		a.complain("wrong value", "%s: expired %t, %v", toldChange(c), c.Expired, c.Err)
	}
	for _, kv := range []etcd.KeyValue{c.Old, c.New} {
		if kv.Key != "" && kv.Key != c.Key {
			a.complain("wrong value", "%s holds %s", toldChange(c), kv.Key)
		}
	}
}

// difference returns what has changed between two revisions, in the end. The caller holds
// the lock.
func (h *truth) difference(from, to int64, mine func(key string) bool) map[string]fact {
	out := map[string]fact{}
	for _, f := range h.facts[h.from(from+1):h.from(to+1)] {
		if !mine(f.Key) {
			continue
		}
		if d, ok := out[f.Key]; ok {
			f.Prev = d.Prev
		}
		out[f.Key] = f
	}
	for key, f := range out {
		if f.Prev == f.Now {
			delete(out, key)
		}
	}
	return out
}

// at returns up to which revision everything was told.
func (a *changesAccount) at(h *truth) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return a.position
}

// violations returns what is wrong with the account so far.
func (a *changesAccount) violations(h *truth) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), a.wrong...)
}

// contentOf is what a mirror, or a part of its past, holds.
func contentOf(revision int64, all iter.Seq[etcd.KeyValue]) content {
	c := content{revision, map[string]holding{}}
	for kv := range all {
		c.keys[kv.Key] = holdingOf(kv)
	}
	return c
}
