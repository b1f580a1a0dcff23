package mirror

import (
	"hash/maphash"
	"iter"

	"github.com/tidwall/btree"

	"github.com/blueprint-go/etcd"
)

// state is everything at one revision. It never changes: the next one shares with it what
// they have in common. So a reader that has a state needs no lock.
type state struct {
	revision int64
	table    table                      // by key
	order    *btree.Map[string, *entry] // in order
	bad      *btree.Map[string, *entry] // those of them that readers don't see
}

func newState(prefix string, seed maphash.Seed, revision int64) *state {
	return &state{
		revision: revision,
		table:    newTable(prefix, seed),
		order:    &btree.Map[string, *entry]{},
		bad:      &btree.Map[string, *entry]{},
	}
}

func (s *state) get(key string) (*entry, bool) {
	e := s.table.get(key)
	return e, e != nil && e.isGood()
}

// named is get for a key without the prefix.
func (s *state) named(name string) (*entry, bool) {
	e := s.table.named(name)
	return e, e != nil && e.isGood()
}

func (s *state) len() int { return s.table.len - s.bad.Len() }

// between returns the entries that readers see, in order, from one key up to but not
// including another. The empty key means the end.
func (s *state) between(from, to string) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		s.order.Ascend(from, func(key string, e *entry) bool {
			if to != "" && key >= to {
				return false
			}
			return !e.isGood() || yield(e)
		})
	}
}

// draft is a state in the making. Only one is made of a state: the trees know by their
// owner what they may change in place.
type draft struct {
	state
	edit *edit
}

// draft begins the next state.
func (s *state) draft() *draft {
	d := &draft{state: *s, edit: &edit{}}
	d.table, d.order, d.bad = s.table.clone(), s.order.IsoCopy(), s.bad.IsoCopy()
	return d
}

// at returns the same state at another revision.
func (s *state) at(revision int64) *state {
	out := *s
	out.revision = revision
	return &out
}

// newEntry returns the entry of a key-value.
func (s *state) newEntry(kv etcd.KeyValue, extra any) *entry {
	if _, bad := extra.(undecodable); bad {
		kv.Value = nil
	}
	return &entry{hash: s.table.hash(kv.Key), kv: kv, extra: extra}
}

// put stores an entry and returns the one that it replaces.
func (d *draft) put(e *entry) *entry {
	old := d.table.put(d.edit, e)
	d.order.Set(e.kv.Key, e)
	d.sort(e.kv.Key, old, e)
	return old
}

// load is put for keys in ascending order, of which each is new.
func (d *draft) load(e *entry) {
	d.table.put(d.edit, e)
	d.order.Load(e.kv.Key, e)
	d.sort(e.kv.Key, nil, e)
}

// remove removes a key and returns its entry; nil if there was none.
func (d *draft) remove(key string) *entry {
	old := d.table.remove(d.edit, key)
	if old != nil {
		d.order.Delete(key)
		d.sort(key, old, nil)
	}
	return old
}

// sort keeps the list of those that readers don't see.
func (d *draft) sort(key string, old, e *entry) {
	switch {
	case e != nil && !e.isGood():
		d.bad.Set(key, e)
	case old != nil && !old.isGood():
		d.bad.Delete(key)
	}
}

// done returns the finished state. The draft must not be used after that.
func (d *draft) done() *state { return &d.state }
