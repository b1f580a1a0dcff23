package live

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tree is a part of a key between slashes, with what lies below it.
type tree struct {
	key      string // of the value; if there is none, one of those below
	value    string
	hasValue bool
	below    map[string]*tree
}

// grow adds a value. rest is what of its key comes below the tree.
func (t *tree) grow(key, rest, value string) {
	at := t
	for part := range strings.SplitSeq(rest, "/") {
		if at.below == nil {
			at.below = map[string]*tree{}
		}
		next := at.below[part]
		if next == nil {
			next = &tree{key: key}
			at.below[part] = next
		}
		at = next
	}
	at.key, at.value, at.hasValue = key, value, true
}

// first returns the first key of the values in the tree.
func (t *tree) first() string {
	if t.hasValue {
		return t.key
	}
	least := ""
	for _, below := range t.below {
		if key := below.first(); least == "" || key < least {
			least = key
		}
	}
	return least
}

// all yields the keys of all values in the tree.
func (t *tree) all(yield func(key string)) {
	if t.hasValue {
		yield(t.key)
	}
	for _, name := range slices.Sorted(maps.Keys(t.below)) {
		t.below[name].all(yield)
	}
}

// tree returns what a tree of keys is to mapstructure, for a shape.
func (n *namer) tree(s *shape, path string, t *tree) any {
	switch {
	case t.hasValue && len(t.below) > 0:
		below := &tree{below: t.below}
		n.problem(t.key, path, fmt.Errorf("%w: %q lies below it", ErrSameField, below.first()))
		return nil
	case t.hasValue:
		n.origin[path] = t.key
		return n.value(s, t.key, path, t.value)
	}
	switch s.kind {
	case kindStructure:
		return n.fields(s, path, t)
	case kindMapping, kindOpen:
		elem := s.elem
		if s.kind == kindOpen {
			elem = s
		}
		out, names := map[string]any{}, map[any]string{}
		for _, name := range slices.Sorted(maps.Keys(t.below)) {
			if other, same := sameKey(s, names, name); same {
				n.problem(t.below[name].first(), path, fmt.Errorf("%w: %q names it too", ErrSameField, t.below[other].first()))
				continue
			}
			out[name] = n.tree(elem, path+"["+name+"]", t.below[name])
		}
		return out
	}
	n.unknown(path, t) // below what is one value
	return nil
}

// fields is tree for a structure.
func (n *namer) fields(s *shape, path string, t *tree) any {
	out, from := map[string]any{}, map[*field]*tree{}
	for _, name := range slices.Sorted(maps.Keys(t.below)) {
		f, below := s.fields[strings.ToLower(name)], t.below[name]
		switch {
		case f == nil && s.remain:
			out[name] = n.tree(&shape{kind: kindOpen}, path+"["+name+"]", below)
		case f == nil:
			n.unknown(path, below)
		case from[f] != nil:
			n.problem(below.first(), within(s, path, f.name), fmt.Errorf("%w: %q names it too", ErrSameField, from[f].first()))
		default:
			from[f] = below
			if v := n.tree(f.shape, within(s, path, f.name), below); v != nil {
				out[f.name] = v
			}
		}
	}
	return out
}

// unknown notes that the keys of a tree name no field.
func (n *namer) unknown(path string, t *tree) {
	if !n.strict {
		return
	}
	t.all(func(key string) { n.problem(key, path, ErrUnknownField) })
}
