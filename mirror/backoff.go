package mirror

import (
	"context"
	"math/rand/v2"
	"time"
)

// maxBackoff is the longest pause between two tries.
const maxBackoff = 30 * time.Second

// backoff returns the pause after a number of futile tries: twice as long after each, cut
// by up to a half at random.
func backoff(tries int, first time.Duration) time.Duration {
	d := min(first<<min(tries, 20), maxBackoff)
	return d/2 + rand.N(d/2+1)
}

// pause waits for d and reports whether ctx lives.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// followBackoff is the first pause before a watch that has failed is begun again.
const followBackoff = 500 * time.Millisecond
