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
		m, err := mirror.OpenTyped(ctx, etcd.NewTypedWith(client, prefix, raw{}), opts...)
		if err != nil {
			return nil, state{}, nil, err
		}
		first, changes := begin(life, m, prefix)
		return mirrored{m}, first, revisions(changes, prefix), nil
	}
}

// begin returns the state of a mirror, and the changes after exactly that one.
func begin(life context.Context, m *mirror.Typed[[]byte], prefix string) (state, iter.Seq[mirror.TypedChange[[]byte]]) {
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
		for v := range before.All() {
			s.entries[prefix+v.Name] = entry{value: v.Value}
		}
		for name, err := range bad {
			s.entries[prefix+name] = entry{err: err}
		}
		return s, func(yield func(mirror.TypedChange[[]byte]) bool) {
			defer drop()
			changes(yield)
		}
	}
}

// revisions puts the changes of each revision together.
func revisions(changes iter.Seq[mirror.TypedChange[[]byte]], prefix string) iter.Seq[revision] {
	return func(yield func(revision) bool) {
		var r revision
		for c := range changes {
			if c.Type == mirror.Ended {
				return
			}
			one := change{key: prefix + c.Name}
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
type mirrored struct{ *mirror.Typed[[]byte] }

func (m mirrored) close() { m.Close() }

func (m mirrored) status() connection {
	s := m.Status()
	return connection{connected: s.Connected, since: s.Since, cause: s.Cause, confirmed: s.Confirmed}
}
