package etcd

import (
	"context"
	"slices"
	"sync"
	"time"
)

// keptLeases are the leases of WithLock that wait for the next one, which then needs no grant.
// Nothing is attached to them: a lease whose claim is in doubt is given up and never comes here.
type keptLeases struct {
	renewals *renewals

	mu   sync.Mutex // guards what follows; never held over a request
	idle []*keptLease
}

type keptLease struct {
	session *session
	asked   int64 // the time to live that was asked for, in seconds
	over    *time.Timer
}

const (
	// keptTime is how long a lease waits. The doc of WithLock names it.
	keptTime = 10 * time.Second
	// maxKept is how many wait at a time. The doc of WithLock names it.
	maxKept = 16
	// maxKeptAge is how old a lease may get: should a proxy have sent a claim twice, what the
	// second has put is gone after that.
	maxKeptAge = time.Minute
)

// session returns a session on a lease with that time to live: the one kept last, or a new one.
func (k *keptLeases) session(ctx context.Context, ttlSeconds int64) (*session, error) {
	if s := k.take(ttlSeconds); s != nil {
		return s, nil
	}
	return k.renewals.newSession(ctx, ttlSeconds)
}

func (k *keptLeases) take(ttlSeconds int64) *session {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := len(k.idle) - 1; i >= 0; i-- {
		if l := k.idle[i]; l.asked == ttlSeconds && l.session.alive() {
			l.over.Stop()
			k.idle = slices.Delete(k.idle, i, i+1)
			return l.session
		}
	}
	return nil
}

// keep keeps a lease, or gives it up.
func (k *keptLeases) keep(s *session, ttlSeconds int64) {
	l := &keptLease{session: s, asked: ttlSeconds}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !s.alive() || len(k.idle) >= maxKept || time.Since(s.began) > maxKeptAge {
		s.abandon()
		return
	}
	l.over = time.AfterFunc(keptTime, func() { k.end(l) })
	k.idle = append(k.idle, l)
}

// end gives a lease up that nobody has taken.
func (k *keptLeases) end(l *keptLease) {
	k.mu.Lock()
	i := slices.Index(k.idle, l)
	if i >= 0 {
		k.idle = slices.Delete(k.idle, i, i+1)
	}
	k.mu.Unlock()
	if i >= 0 {
		l.session.abandon()
	}
}
