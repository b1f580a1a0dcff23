package mirror

import (
	"math"
	"time"
)

// Status says how good a mirror is.
type Status struct {
	// Connected reports whether a server has registered the watch and nothing is known
	// to be wrong with it.
	Connected bool
	// Since is since when that is so.
	Since time.Time
	// Cause is why the mirror is not connected; nil if it is. It may be an error that
	// doesn't pass by itself, such as [etcd.ErrPermissionDenied]: the mirror serves what
	// it has and goes on trying, at least every 30 s. [etcd.ErrClosed] is final.
	Cause error
	// Confirmed is the last moment at which the mirror was known to be complete. It moves
	// on with events, unless they are those that an interruption has held back, with
	// [Mirror.Fresh], and with progress: about every second, and where nobody has written
	// anything to the cluster since the mirror was connected, about every half of
	// [etcd.Config.RequestTimeout] (see [etcd.WithProgressNotify]).
	// Events and progress are the word of one member, which a partition may leave behind the
	// others for the time of an election; Fresh proves it for the cluster.
	Confirmed time.Time
	// Revision is [Mirror.Revision].
	Revision int64
	// Resyncs counts how many times the mirror was loaded again, after a compaction or a
	// restore.
	Resyncs int64
	// Bad is how many values could not be decoded: see [Mirror.Bad].
	Bad int
}

// Status returns what is known of the mirror now. It takes no request.
func (m *Mirror) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	out, now := m.status, m.current.Load()
	out.Revision, out.Bad = now.revision, now.bad.Len()
	return out
}

// Bad returns the keys whose values could not be decoded, each with the reason: an
// [*etcd.DecodeError], or an error that matches [etcd.ErrKeyUnavailable]; the latter are
// tried again until they succeed. Reads count these keys as missing.
func (m *Mirror) Bad() map[string]error {
	out := map[string]error{}
	m.current.Load().bad.Scan(func(key string, e *entry) bool {
		out[key] = e.failure()
		return true
	})
	return out
}

func (m *Mirror) connected() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.registrations++
	m.head = math.MaxInt64 // until verify knows it
	if m.ended == nil && !m.status.Connected {
		m.status.Connected, m.status.Since, m.status.Cause = true, time.Now(), nil
	}
}

func (m *Mirror) interrupted(cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended != nil {
		return
	}
	if m.status.Connected {
		m.status.Connected, m.status.Since = false, time.Now()
	}
	m.status.Cause = cause
}

// confirm notes that the mirror was complete at a moment. m.mu is held.
func (m *Mirror) confirm(at time.Time) {
	if at.After(m.status.Confirmed) {
		m.status.Confirmed = at
	}
}
