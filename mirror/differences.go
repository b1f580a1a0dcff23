package mirror

import (
	"iter"
)

// differences returns what has changed from one state to another, in the order of keys.
// found says that the changes were found and not told.
func differences(from, to *state, found bool) iter.Seq[record] {
	return func(yield func(record) bool) {
		var last record // waits until it is known whether more follow
		some := false
		stopped := false
		for key := range pairs(from, to) {
			if key[0] == key[1] {
				continue
			}
			if some {
				last.more = true
				if !yield(last) {
					stopped = true
					break
				}
			}
			some, last = true, record{old: key[0], new: key[1], revision: to.revision, found: found}
		}
		if some && !stopped {
			yield(last)
		}
	}
}

// pairs returns the entries of two states in the order of keys, those of one key together.
func pairs(a, b *state) iter.Seq[[2]*entry] {
	return func(yield func([2]*entry) bool) {
		ai, bi := a.order.Iter(), b.order.Iter()
		aok, bok := ai.First(), bi.First()
		for aok || bok {
			var pair [2]*entry
			takeA := aok && (!bok || ai.Key() <= bi.Key())
			takeB := bok && (!aok || bi.Key() <= ai.Key())
			if takeA {
				pair[0] = ai.Value()
			}
			if takeB {
				pair[1] = bi.Value()
			}
			if !yield(pair) {
				return
			}
			if takeA {
				aok = ai.Next()
			}
			if takeB {
				bok = bi.Next()
			}
		}
	}
}
