package mirror

import (
	"github.com/blueprint-go/etcd"
)

// publish makes next what is applied and, unless what readers see holds for a later
// revision, what they see. m.mu is held.
func (m *Mirror) publish(next *state) {
	m.applied = next
	if next.revision >= m.current.Load().revision {
		m.show(next)
	}
}

// show makes next what readers see, and wakes those who wait for its revision. m.mu is
// held.
func (m *Mirror) show(next *state) {
	m.current.Store(next)
	for w := range m.waiters {
		if w.revision <= next.revision {
			w.tell(nil)
		}
	}
}

// regressed makes the mirror load again, because the history that it is in is gone.
func (m *Mirror) regressed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.restart != nil {
		m.restart(etcd.ErrRevisionRegressed)
	}
}
