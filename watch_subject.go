package etcd

import "github.com/blueprint-go/etcd/internal/keys"

// watchSubject is what a watch is about.
type watchSubject struct {
	key, end string
	kind     watchKind
}

type watchKind int

const (
	watchKey watchKind = iota
	watchPrefix
	watchRange
)

// isAll reports whether it is about every key.
func (w watchSubject) isAll() bool { return w.key == "" && w.end == "" && w.kind != watchKey }

// in returns its range of keys.
func (w watchSubject) in(n namespace) (keys.Range, error) {
	if w.kind == watchRange {
		return n.between(w.key, w.end)
	}
	return n.keyOrPrefix(w.key, w.kind == watchPrefix)
}
