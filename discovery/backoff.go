package discovery

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// firstPause and longestPause are those between two tries.
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// backoff returns the pause after a number of futile tries: twice as long after each, cut by
// up to a half at random.
func backoff(tries int) time.Duration {
	return jittered(min(firstPause<<min(tries, 20), longestPause))
}

// jittered returns d, cut by up to a half at random.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

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
