package mirror

import (
	"errors"
	"time"

	"github.com/blueprint-go/etcd"
)

// Values whose key was unavailable are read again until they can be decoded, or others
// have taken their place.

// mendBackoff is the first pause between two tries.
const mendBackoff = 200 * time.Millisecond

func (m *Mirror) mend() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mendLocked()
}

// mendLocked begins to read them, if there are some. m.mu is held.
func (m *Mirror) mendLocked() {
	if m.mending || m.applied.unavailable() == nil {
		return
	}
	m.mending = m.begin(func() {
		for tries := 0; pause(m.ctx, backoff(tries, mendBackoff)); tries++ {
			m.mu.Lock()
			e := m.applied.unavailable()
			m.mending = e != nil
			m.mu.Unlock()
			if e == nil {
				return
			}
			m.readAgain()
		}
	})
}

// unavailable returns the first of them; nil if there is none.
func (s *state) unavailable() (first *entry) {
	s.bad.Scan(func(_ string, e *entry) bool {
		if errors.Is(e.failure(), etcd.ErrKeyUnavailable) {
			first = e
		}
		return first == nil
	})
	return first
}

// readAgain reads them until one is still unavailable.
func (m *Mirror) readAgain() {
	m.mu.Lock()
	bad := m.applied.bad
	m.mu.Unlock()
	bad.Scan(func(key string, e *entry) bool {
		if !errors.Is(e.failure(), etcd.ErrKeyUnavailable) {
			return true
		}
		kv, err := m.client.GetKV(m.ctx, key)
		if kv.ModRevision == e.kv.ModRevision && !errors.Is(err, etcd.ErrKeyUnavailable) && isAnswer(err) {
			m.replace(e, kv, m.extra(kv, err))
			return true
		}
		return err == nil || errors.Is(err, etcd.ErrKeyNotFound)
	})
}

// isAnswer reports whether err leaves no doubt about the value.
func isAnswer(err error) bool {
	_, undecodable := errors.AsType[*etcd.DecodeError](err)
	return err == nil || undecodable
}

// replace replaces an entry, unless an event has done so.
func (m *Mirror) replace(e *entry, kv etcd.KeyValue, extra any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.applied
	if before.table.get(e.kv.Key) != e {
		return
	}
	d, by := before.draft(), before.newEntry(kv, extra)
	d.put(by)
	for r := range m.readers {
		r.add(before, []record{{old: e, new: by, revision: before.revision, found: true}})
	}
	next, shown := d.done(), m.current.Load()
	m.publish(next)
	if next.revision < shown.revision && before.order == shown.order { // a proof has moved it on
		m.show(next.at(shown.revision))
	}
}
