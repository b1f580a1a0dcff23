package etcd

import (
	"fmt"
	"time"
)

// checkTTL converts a time to live to the server's whole seconds, rounding up so that a
// lease never ends before its time.
func checkTTL(ttl time.Duration) (int64, error) {
	seconds := int64(ttl / time.Second)
	if ttl%time.Second > 0 { // adding to ttl could overflow
		seconds++
	}
	return seconds, checkTTLSeconds(seconds)
}

func checkTTLSeconds(seconds int64) error {
	if seconds <= 0 || seconds > maxTTLSeconds {
		return fmt.Errorf("%w: %d seconds, must be from 1 to %d", ErrInvalidTTL, seconds, int64(maxTTLSeconds))
	}
	return nil
}

// maxTTLSeconds is the longest time to live that a server accepts
// (server/v3/lease, MaxLeaseTTL): about 285 years.
const maxTTLSeconds = 9_000_000_000

// DefaultLockTTL is the time to live of a lock's lease: how long a lock stays
// taken after its holder has died.
const DefaultLockTTL = 15 * time.Second
