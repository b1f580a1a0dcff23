package etcd

import (
	"sync/atomic"
	"time"
)

// streamSupport remembers that a server has no RangeStream: one before etcd 3.7,
// or a proxy. After a while it is asked again, as it may have been upgraded.
type streamSupport struct{ missed atomic.Int64 } // Unix time in ns; 0 means never

func (s *streamSupport) missing() { s.missed.Store(time.Now().UnixNano()) }

func (s *streamSupport) usable() bool {
	missed := s.missed.Load()
	return missed == 0 || time.Since(time.Unix(0, missed)) >= streamProbe
}

const streamProbe = 5 * time.Minute

// nestingLimit is the limit of operations that a server was found to have, where it
// is lower than the configured one. The zero value knows of none. It is safe for
// concurrent use.
type nestingLimit struct{ lower atomic.Int64 }

// begin returns the limit to begin with. The configured one is tried again when the
// one that was found can't hold n operations: the server may have been changed.
func (l *nestingLimit) begin(n, configured, inner int) int {
	lower := int(l.lower.Load())
	if lower == 0 || lower < lowestLimit(n)+inner {
		return configured
	}
	return lower
}

// learn takes in that a request of this limit was accepted, after those of higher
// ones were refused, if they were tried.
func (l *nestingLimit) learn(limit, configured int) {
	if limit == configured {
		limit = 0
	}
	if l.lower.Load() != int64(limit) { // else the cache line is left alone
		l.lower.Store(int64(limit))
	}
}

// lowestLimit returns the lowest limit under which n operations can be nested.
func lowestLimit(n int) int {
	limit := 1
	for {
		if _, err := nestingFor(n, limit); err == nil {
			return limit
		}
		limit++
	}
}
