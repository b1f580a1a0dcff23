package etcd

import "time"

// patience limits how long a watch still waits for unavailable keys. Anyone can plant
// values with keys that nobody knows, and a key service can hang: each such value would
// hold up the events behind it for as long as a request may take. So they share one wait,
// which comes back slowly; a key that is found costs nothing.
//
// A nil patience is for a call, which has a deadline.
type patience struct {
	most, left time.Duration
	at         time.Time // when left was right
	exhausted  bool      // nothing is worth the wait now
}

const (
	longestPatience = time.Second      // all together
	patienceShare   = 10               // a tenth of the time that passes comes back
	patienceParts   = 4                // a fourth must be there for another try
	leastPatience   = time.Millisecond // for what is known at once
)

func newPatience(timeout time.Duration) *patience {
	most := min(timeout, longestPatience)
	return &patience{most: most, left: most, at: time.Now()}
}

// allows returns how long to wait now.
func (p *patience) allows() time.Duration {
	now := time.Now()
	p.left = min(p.most, p.left+now.Sub(p.at)/patienceShare)
	p.at = now
	// With less than that, a service that is back would go unnoticed: each try would use
	// up what has come back since the last one.
	if p.exhausted = p.left < p.most/patienceParts; p.exhausted {
		return leastPatience
	}
	return p.left
}

// spend records a wait that was in vain.
func (p *patience) spend(waited time.Duration) {
	if p != nil && !p.exhausted {
		p.left = max(0, p.left-waited)
	}
}

func (p *patience) isExhausted() bool { return p != nil && p.exhausted }
