package live

import (
	"context"
	"iter"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/mirror"
)

// followPrefix follows all keys under a prefix.
func followPrefix(life context.Context, client *etcd.Client, prefix string, all bool) follower {
	return func(ctx context.Context) (source, state, iter.Seq[revision], error) {
		var opts []mirror.Option
		if all {
			opts = append(opts, mirror.WithAllKeys())
		}
		m, err := mirror.Open(ctx, client, prefix, opts...)
		if err != nil {
			return nil, state{}, nil, err
		}
		first, changes := begin(life, m)
		return mirrored{m}, first, revisions(changes), nil
	}
}

// begin returns the state of a mirror, and the changes after exactly that one.
func begin(life context.Context, m *mirror.Mirror) (state, iter.Seq[mirror.Change]) {
	for {
		ctx, drop := context.WithCancel(life)
		before := m.Snapshot()
		changes := m.Changes(ctx)
		bad := m.Bad()
		if m.Snapshot() != before {
			drop() // it has changed meanwhile
			continue
		}
		s := state{revision: before.Revision(), entries: map[string]entry{}}
		for kv := range before.All() {
			s.entries[kv.Key] = entry{value: kv.Value}
		}
		for key, err := range bad {
			s.entries[key] = entry{err: err}
		}
		return s, func(yield func(mirror.Change) bool) {
			defer drop()
			changes(yield)
		}
	}
}

// revisions puts the changes of each revision together.
func revisions(changes iter.Seq[mirror.Change]) iter.Seq[revision] {
	return func(yield func(revision) bool) {
		var r revision
		for c := range changes {
			if c.Type == mirror.Ended {
				return
			}
			one := change{key: c.Key}
			if c.Type != mirror.Deleted {
				one.now = &entry{value: c.New.Value, err: c.Err}
			}
			r.number, r.changes = c.Revision, append(r.changes, one)
			if c.More {
				continue
			}
			if !yield(r) {
				return
			}
			r = revision{}
		}
	}
}

// mirrored is a mirror as a source.
type mirrored struct{ *mirror.Mirror }

func (m mirrored) close() { m.Close() }

func (m mirrored) status() connection {
	s := m.Status()
	return connection{connected: s.Connected, since: s.Since, cause: s.Cause, confirmed: s.Confirmed}
}
