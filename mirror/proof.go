package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/blueprint-go/etcd"
)

// prove proves in the background, unless that is under way, that the mirror is complete
// up to the store's present revision. It is for calls that wait and hear no progress.
func (m *Mirror) prove() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proving {
		return
	}
	m.proving = m.begin(func() {
		// A failed proof is no news: the next one may succeed, and who waits has a context.
		_ = m.proof(m.ctx)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.proving = false
	})
}

// proof shows by reads that nothing has changed since the revision of the mirror: no key
// is newer, and there are as many as then, so that none was deleted either. Otherwise
// events are on their way.
func (m *Mirror) proof(ctx context.Context) error {
	known, began := m.current.Load(), time.Now()
	unchanged := etcd.ModRevision(m.prefix).OfPrefix().Less(known.revision + 1)
	result, err := m.client.Txn().If(unchanged).Commit(ctx)
	if err != nil {
		return err
	}
	if result.Revision < known.revision {
		m.regressed()
		return nil
	}
	if !result.Succeeded {
		return nil
	}
	same, err := m.sameCount(ctx, known, result.Revision)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !same {
		m.doubtLocked(known)
		return nil
	}
	m.confirm(began)
	// If something was applied meanwhile, it may be half of what cancels itself out.
	if now := m.current.Load(); now.order == known.order && now.revision < result.Revision {
		m.show(now.at(result.Revision))
	}
	return nil
}

// doubt counts the proofs that have failed at one state because keys were deleted.
type doubt struct {
	revision int64
	proofs   int
}

// maxDoubts is how many proofs in a row wait for the events of deletions.
const maxDoubts = 4

// doubtLocked has the mirror loaded again where deletions are missing and no event comes.
// Servers before 3.4.34 and 3.5.16 lose one to a watch that begins at exactly the revision
// that was compacted (etcd-io/etcd#18089). m.mu is held.
func (m *Mirror) doubtLocked(known *state) {
	if m.doubt.revision != known.revision {
		m.doubt = doubt{revision: known.revision}
	}
	if m.doubt.proofs++; m.doubt.proofs >= maxDoubts && m.restart != nil {
		m.doubt = doubt{}
		m.restart(etcd.ErrCompacted)
	}
}

// sameCount reports whether there are as many keys at a revision as at that of known.
func (m *Mirror) sameCount(ctx context.Context, known *state, revision int64) (bool, error) {
	if revision == known.revision {
		return true, nil
	}
	after, err := m.client.Count(ctx, m.prefix, etcd.WithRevision(revision))
	if err != nil {
		return false, err
	}
	before, err := m.client.Count(ctx, m.prefix, etcd.WithRevision(known.revision))
	if !errors.Is(err, etcd.ErrCompacted) {
		return before == after, err
	}
	// What was counted then can't be counted any more, and the claims of locks, which the
	// mirror doesn't know, count too: so the keys themselves are counted.
	keys := 0
	for _, err := range m.client.Scan(ctx, m.prefix, etcd.WithRevision(revision), etcd.WithKeysOnly()) {
		if err != nil {
			return false, err
		}
		keys++
	}
	return keys == known.table.len, nil
}
