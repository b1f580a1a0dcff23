package etcd

import (
	"sync/atomic"
	"time"
)

// streamSupport remembers that a server has no RangeStream: one before etcd 3.7, or a
// proxy. After a while the server is asked again, as it may have been upgraded.
type streamSupport struct{ missed atomic.Int64 } // Unix time in ns; 0 means never

func (s *streamSupport) missing() { s.missed.Store(time.Now().UnixNano()) }

func (s *streamSupport) usable() bool {
	missed := s.missed.Load()
	return missed == 0 || time.Since(time.Unix(0, missed)) >= streamProbe
}

const streamProbe = 5 * time.Minute
