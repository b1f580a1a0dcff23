package discovery

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/blueprint-go/etcd"
)

// Status says what has become of a registration.
type Status struct {
	// Registered reports whether the instance can be found, as far as is known.
	Registered bool
	// Since is since when that is so.
	Since time.Time
	// Cause is why the instance is not registered: [etcd.ErrLeaseLost], for example, an error
	// of the connection or of access, [ErrDuplicateInstance], or [etcd.ErrClosed], which is
	// final. If Registered is true, Cause is why that can't be verified at the moment; nil if
	// it can.
	Cause error
	// Lease is the lease that the key was last attached to.
	Lease etcd.LeaseID
	// Revision is that of the last put of the registration.
	Revision int64
	// Recoveries counts how many times the instance was put again after it was lost.
	Recoveries int64
}

// told holds the status of a registration. It is safe for concurrent use.
type told struct {
	logger *slog.Logger

	mu      sync.Mutex
	now     Status
	changed chan struct{} // closed and replaced with each change
	ended   bool
}

func newTold(logger *slog.Logger) *told {
	return &told{logger: logger, now: Status{Since: time.Now(), Cause: errNotYet}, changed: make(chan struct{})}
}

func (t *told) get() (Status, <-chan struct{}, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now, t.changed, t.ended
}

// registered notes that the instance stands, put by the registration at a revision.
func (t *told) registered(lease etcd.LeaseID, revision int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	before := t.now
	t.now.Lease, t.now.Revision, t.now.Cause = lease, revision, nil
	if before.Registered && before.Revision == revision && before.Lease == lease && before.Cause == nil {
		return
	}
	if !before.Registered {
		t.now.Registered, t.now.Since = true, time.Now()
		again := before.Revision != 0
		if again {
			t.now.Recoveries++
		}
		t.logger.Info("etcd: instance registered", slog.Bool("again", again),
			slog.Duration("after", t.now.Since.Sub(before.Since)))
	}
	t.tell()
}

// lost notes that the instance doesn't stand.
func (t *told) lost(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || !t.now.Registered && sameCause(t.now.Cause, why) {
		return
	}
	if t.now.Registered {
		t.now.Registered, t.now.Since = false, time.Now()
	}
	t.now.Cause = why
	t.logger.Warn("etcd: instance not registered", slog.Any("cause", why))
	t.tell()
}

// doubtful notes that what is known can't be verified at the moment, or with nil that it is.
func (t *told) doubtful(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || sameCause(t.now.Cause, why) || !t.now.Registered && why == nil {
		return
	}
	t.now.Cause = why
	if why != nil {
		t.logger.Debug("etcd: instance can't be verified", slog.Any("cause", why))
	}
	t.tell()
}

// end notes that the registration has ended.
func (t *told) end(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	if t.ended = true; t.now.Registered {
		t.now.Registered, t.now.Since = false, time.Now()
	}
	t.now.Cause = why
	t.logger.Info("etcd: registration ended", slog.Any("cause", why))
	t.tell()
}

// tell wakes those that wait for a change. t.mu is held.
func (t *told) tell() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// sameCause reports whether two causes say the same.
func sameCause(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return errors.Is(a, b) || a.Error() == b.Error()
}

// changes yields the status and each that follows.
func (t *told) changes(ctx context.Context) iter.Seq[Status] {
	return func(yield func(Status) bool) {
		for ctx != nil && ctx.Err() == nil {
			now, changed, ended := t.get()
			if !yield(now) || ended {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}
