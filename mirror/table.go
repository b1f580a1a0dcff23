package mirror

import (
	"hash/maphash"
	"math/bits"
	"strings"
)

// table finds entries by key: a hash table whose versions share what they have in common,
// so that a version can be read without a lock while the next one is made. (Extendible
// hashing: the first bits of a hash choose a leaf through a directory, and a leaf that is
// full is divided in two, which changes nothing else.)
//
// The directory is in chunks, so that a change copies a chunk and a leaf and not all of
// it. The search for a key takes three loads that miss the processor's caches in a large
// table: the leaf, the entry and its key.
type table struct {
	prefix string // of all keys; only what follows it is hashed and compared
	seed   maphash.Seed
	bits   uint32 // how many bits of a hash choose a leaf
	most   uint32 // maxBits
	chunks []*chunk
	len    int
}

const (
	chunkBits = 7
	// leafFull leaves slots free, so that searches are short.
	leafFull = 36
	// maxBits bounds the directory. Where it would have to grow further, the hashes of
	// dozens of keys are alike, and another seed divides them.
	maxBits = 24
)

// chunk is a part of the directory.
type chunk struct {
	owner  *edit
	leaves [1 << chunkBits]*leaf
}

// leaf holds the entries whose hashes begin with the same bits. Its 512 bytes are eight
// lines of the processor's caches, seven of them groups of slots.
type leaf struct {
	owner  *edit
	bits   uint32
	len    uint32
	_      [48]byte
	groups [7]group
}

// group holds entries with a tag of the hash of each: zero for none.
type group struct {
	tags  uint64 // the first byte is never used
	slots [7]*entry
}

// edit is the right to change what it owns in place. It ends when a version is published.
type edit struct{ _ byte }

// newTable returns an empty table, of one leaf.
func newTable(prefix string, seed maphash.Seed) table {
	t := table{prefix: prefix, seed: seed, bits: chunkBits, most: maxBits, chunks: []*chunk{{}}}
	empty := &leaf{}
	for i := range t.chunks[0].leaves {
		t.chunks[0].leaves[i] = empty
	}
	return t
}

// get returns the entry of a key; nil if there is none.
func (t *table) get(key string) *entry {
	if name, ok := strings.CutPrefix(key, t.prefix); ok {
		return t.named(name)
	}
	return nil
}

// named returns the entry of the key that consists of the prefix and name; nil if there is
// none.
func (t *table) named(name string) *entry {
	hash := maphash.String(t.seed, name)
	place := hash >> (64 - t.bits)
	l := t.chunks[place>>chunkBits].leaves[place%(1<<chunkBits)]
	for g := home(hash); ; g = next(g) { // a leaf is never full
		group := &l.groups[g]
		for m := group.matches(hash); m != 0; m &= m - 1 {
			if e := group.slots[slotOf(m)]; e != nil && e.hash == hash && e.kv.Key[len(t.prefix):] == name {
				return e
			}
		}
		if !group.isFull() {
			return nil
		}
	}
}

// Of a hash, the last byte is the tag, with its first bit set, and the bits before choose
// the group.
func tag(hash uint64) uint64 { return hash&0xff | 0x80 }

func home(hash uint64) uint64 { return hash >> 8 & 0xffff * 7 >> 16 }

func next(g uint64) uint64 {
	if g == 6 {
		return 0
	}
	return g + 1
}

const (
	lows  = 0x01010101010101
	highs = 0x80808080808080
)

// matches returns a word with a bit for each slot whose tag is that of hash, and perhaps
// for others.
func (g *group) matches(hash uint64) uint64 {
	x := g.tags ^ tag(hash)*lows
	return (x - lows) &^ x & highs
}

// slotOf returns the slot of the last bit that is set in m.
func slotOf(m uint64) int { return bits.TrailingZeros64(m) / 8 }

func (g *group) isFull() bool { return g.tags&highs == highs }

// clone returns a version of t that can be changed, and whose first change of anything
// copies it.
func (t *table) clone() table {
	out := *t
	out.chunks = append([]*chunk(nil), t.chunks...)
	return out
}

// hash returns the hash of a key, which its entry holds.
func (t *table) hash(key string) uint64 { return maphash.String(t.seed, key[len(t.prefix):]) }

// put stores an entry and returns the one that it replaces. Only a table that clone or
// newTable has returned may be changed.
func (t *table) put(ed *edit, e *entry) (old *entry) {
	l := t.own(ed, e.hash)
	if old = l.put(e); old == nil {
		t.len++
	}
	for l.len >= leafFull {
		t.divide(ed, e.hash)
		l = t.own(ed, e.hash)
	}
	return old
}

// remove removes the entry of a key and returns it; nil if there is none.
func (t *table) remove(ed *edit, key string) *entry {
	e := t.get(key)
	if e == nil {
		return nil
	}
	l := t.own(ed, e.hash)
	kept := *l
	l.groups, l.len = [7]group{}, 0
	for other := range kept.all {
		if other != e {
			l.put(other)
		}
	}
	t.len--
	return e
}

// own returns the leaf of a hash, which may be changed.
func (t *table) own(ed *edit, hash uint64) *leaf {
	place := hash >> (64 - t.bits)
	old := t.chunk(ed, place).leaves[place%(1<<chunkBits)]
	if old.owner == ed {
		return old
	}
	l := *old
	l.owner = ed
	t.place(ed, hash, &l)
	return &l
}

// place puts a leaf wherever the directory leads to it, given a hash that it is for.
func (t *table) place(ed *edit, hash uint64, l *leaf) {
	shared := t.bits - l.bits
	first := hash >> (64 - t.bits) >> shared << shared
	for place := first; place < first+1<<shared; place++ {
		t.chunk(ed, place).leaves[place%(1<<chunkBits)] = l
	}
}

// chunk returns the chunk of a place, which may be changed.
func (t *table) chunk(ed *edit, place uint64) *chunk {
	at := &t.chunks[place>>chunkBits]
	if (*at).owner != ed {
		c := **at
		c.owner = ed
		*at = &c
	}
	return *at
}

// divide puts the entries of a full leaf into two.
func (t *table) divide(ed *edit, hash uint64) {
	full := t.own(ed, hash)
	if full.bits == t.bits {
		if t.bits == t.most {
			t.reseed(ed)
			return
		}
		t.grow(ed)
	}
	half := full.bits + 1
	halves := [2]*leaf{{owner: ed, bits: half}, {owner: ed, bits: half}}
	for e := range full.all {
		halves[e.hash>>(64-half)&1].put(e)
	}
	bit := uint64(1) << (64 - half)
	t.place(ed, hash&^bit, halves[0])
	t.place(ed, hash|bit, halves[1])
}

// grow makes the directory twice as large.
func (t *table) grow(ed *edit) {
	chunks := make([]*chunk, 2*len(t.chunks))
	for i := range chunks {
		c := &chunk{owner: ed}
		half := t.chunks[i/2].leaves[i%2*len(c.leaves)/2:]
		for j := range c.leaves {
			c.leaves[j] = half[j/2]
		}
		chunks[i] = c
	}
	t.bits, t.chunks = t.bits+1, chunks
}

// reseed makes the table anew.
func (t *table) reseed(ed *edit) {
	out := newTable(t.prefix, maphash.MakeSeed())
	for l := range t.leaves {
		for e := range l.all {
			again := *e // readers have the one that is in use
			again.hash = out.hash(again.kv.Key)
			out.put(ed, &again)
		}
	}
	*t = out
}

// leaves returns the leaves, each once.
func (t *table) leaves(yield func(*leaf) bool) {
	var last *leaf
	for _, c := range t.chunks {
		for _, l := range c.leaves {
			if l != last && !yield(l) {
				return
			}
			last = l
		}
	}
}

// put stores an entry and returns the one that it replaces.
func (l *leaf) put(e *entry) (old *entry) {
	for g := home(e.hash); ; g = next(g) {
		group := &l.groups[g]
		for m := group.matches(e.hash); m != 0; m &= m - 1 {
			at := &group.slots[slotOf(m)]
			if old = *at; old != nil && old.hash == e.hash && old.kv.Key == e.kv.Key {
				*at = e
				return old
			}
		}
		if !group.isFull() {
			i := slotOf(^group.tags & highs)
			group.tags |= tag(e.hash) << (8 * i)
			group.slots[i] = e
			l.len++
			return nil
		}
	}
}

// all returns the entries.
func (l *leaf) all(yield func(*entry) bool) {
	for i := range l.groups {
		for _, e := range l.groups[i].slots {
			if e != nil && !yield(e) {
				return
			}
		}
	}
}
