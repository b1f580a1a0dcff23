package etcd

import (
	"sync"
	"time"
)

// vacancy says that the claims to a semaphore that were made up to a revision leave so much free.
// It stays true: later ones are not among them, and those that go make room.
type vacancy struct {
	at   int64
	free int
}

// knownRoom is the newest vacancy with room for a claim that a [Semaphore] has learnt of, from any
// answer, so that the next TryAcquire need not ask first. It decides nothing: a request that is
// bound to it is refused if others have come since. Safe for concurrent use.
type knownRoom struct {
	mu    sync.Mutex
	last  vacancy
	noted time.Time
}

// knownFor is how long a vacancy is used. Revisions begin anew when a cluster is restored from a
// backup: the shorter, the less can a new one be taken for an old one. The doc of TryAcquire names
// it.
const knownFor = 10 * time.Second

// or returns the vacancy, or a guess if there is none.
func (k *knownRoom) or(guess vacancy) vacancy {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last.free == 0 || time.Since(k.noted) > knownFor {
		return guess
	}
	return k.last
}

// note takes in a vacancy, if it has room for that weight. An older one that has is worth more than
// a newer one that has not: the claims since then may be gone by the next request.
func (k *knownRoom) note(v vacancy, weight int) {
	if v.free < weight {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if v.at > k.last.at {
		k.last, k.noted = v, time.Now()
	}
}

// forget drops the vacancy.
func (k *knownRoom) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = vacancy{}
}
