package live

import (
	"context"
	"math/rand/v2"
	"time"
)

// Pauses between two tries to reach etcd.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// wait waits for about d, and reports whether ctx lives.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
