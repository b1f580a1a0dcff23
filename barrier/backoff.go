package barrier

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff returns the pause after a number of futile tries, from 50 ms to 5 s, cut by up to a half
// at random.
func backoff(tries int) time.Duration {
	d := min(50*time.Millisecond<<min(tries, 10), 5*time.Second)
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
