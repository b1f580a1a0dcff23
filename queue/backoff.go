package queue

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

// backoff returns the pause after a number of futile tries: twice as long after each, cut by
// up to a half at random.
func backoff(tries int, first, most time.Duration) time.Duration {
	d := min(first<<min(tries, 20), most)
	return d/2 + rand.N(d/2+1)
}

// pause waits after a futile try and reports whether ctx lives.
func pause(ctx context.Context, tries int) bool {
	return pauseFor(ctx, backoff(tries, firstBackoff, maxBackoff))
}

// pauseFor waits for d and reports whether ctx lives.
func pauseFor(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
