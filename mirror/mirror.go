package mirror

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blueprint-go/etcd"
)

// Mirror is a copy of the keys under a prefix, kept up to date by a watch. It is safe for
// concurrent use. Make one with [Open] and end it with [Mirror.Close]; the zero value is
// not usable.
//
// Get, All, Range, Len, Revision and Snapshot read what is in memory: they take no lock
// and no request. Each reads the newest state, which is that of one revision: whoever has
// seen a change sees all that was changed with it and before it, and never an older state
// afterwards, in any goroutine. Several calls that must agree read one [Mirror.Snapshot].
//
// Values are shared by all who read them: don't modify them.
type Mirror struct {
	client *etcd.Client
	prefix string
	// decode returns what a typed mirror makes of a value; nil for others.
	decode func(etcd.KeyValue) (any, error)

	// current is what readers see.
	current atomic.Pointer[state]

	reads  *reads
	ctx    context.Context // ends with the mirror
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup // the goroutines of the mirror

	// mu guards what is below. It is held for work in memory only.
	mu sync.Mutex
	// applied is the state up to the last event or progress. It is current, unless a
	// proof has shown that current holds for a later revision, up to which events may
	// still come that cancel each other out.
	applied *state
	readers map[*reader]struct{}
	waiters map[*waiter]struct{}
	status  Status
	ended   error // why the mirror has ended
	restart context.CancelCauseFunc
	// registrations counts those of the watch. Until the mirror is complete up to head, the
	// store's revision after the last one, events are those of the time before it.
	registrations int
	head          int64
	proving       bool
	doubt         doubt
	mending       bool
}

// Get returns a key-value, and whether the key exists, in some tens of nanoseconds. A key
// whose value could not be decoded counts as missing; [Mirror.Bad] lists it.
func (m *Mirror) Get(key string) (etcd.KeyValue, bool) { return m.Snapshot().Get(key) }

// All returns the key-values in the order of their keys, all at the revision at which the
// loop begins.
func (m *Mirror) All() iter.Seq[etcd.KeyValue] { return m.Range("", "") }

// Range returns the key-values from a key up to but not including another, in the order
// of their keys, all at the revision at which the loop begins. An empty from means the
// first key, an empty to the end of all.
func (m *Mirror) Range(from, to string) iter.Seq[etcd.KeyValue] {
	return func(yield func(etcd.KeyValue) bool) { m.Snapshot().Range(from, to)(yield) }
}

// Len returns how many keys there are, without those whose values could not be decoded.
func (m *Mirror) Len() int { return m.Snapshot().Len() }

// Revision returns the revision of the store up to which the mirror is complete. It moves
// on with changes under the prefix and, about every second, with those of other keys.
// [Mirror.Fresh] and [Mirror.WaitFor] move it on at once. It goes back only if the cluster
// was restored to an older revision.
func (m *Mirror) Revision() int64 { return m.current.Load().revision }

// Snapshot returns everything at one revision, the newest.
func (m *Mirror) Snapshot() Snapshot { return Snapshot{m.current.Load()} }

// Close ends the mirror: loops over [Mirror.Changes] end, calls that wait fail with
// [etcd.ErrClosed], and so do later ones. Reads go on from what is in memory. It waits
// for the goroutines of the mirror, may be called from the body of a loop, and is
// idempotent and safe for concurrent use. It sends no request and never fails.
func (m *Mirror) Close() {
	m.end(errClosed)
	m.tasks.Wait()
}

// end ends the mirror, for the reason that is given first.
func (m *Mirror) end(why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended != nil {
		return
	}
	m.ended = why
	m.status.Connected, m.status.Since, m.status.Cause = false, time.Now(), why
	m.cancel(why)
	for w := range m.waiters {
		w.tell(why)
	}
}

// begin runs f in a goroutine of the mirror, which [Mirror.Close] waits for. It reports
// whether the mirror is open. m.mu is held.
func (m *Mirror) begin(f func()) bool {
	if m.ended != nil {
		return false
	}
	m.start(f)
	return true
}

// start is begin for a mirror that is not known to others yet.
func (m *Mirror) start(f func()) {
	m.tasks.Add(1)
	go func() {
		defer m.tasks.Done()
		returned := false
		defer func() {
			if !returned { // an encoding has called runtime.Goexit, which nothing holds up
				m.end(errExited)
			}
		}()
		f()
		returned = true
	}()
}

// fail returns err as the error of a call on this mirror: that of a request says what was asked of
// the mirror, and keeps everything else.
func (m *Mirror) fail(op string, err error) error {
	if failed, ok := err.(*etcd.Error); ok { //nolint:errorlint // one that is joined to others stays
		named := *failed
		named.Op, named.Key = op, m.prefix
		return &named
	}
	return &etcd.Error{Op: op, Key: m.prefix, Err: err}
}
