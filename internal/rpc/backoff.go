package rpc

import (
	"context"
	"math/rand/v2"
	"time"
)

// TimeIsUp reports whether ctx has ended, or its deadline has passed and only its
// timer is late: the server and gRPC go by their own clocks.
func TimeIsUp(ctx context.Context) bool {
	left, ok := timeLeft(ctx)
	return ctx.Err() != nil || ok && left <= 0
}

// timeLeft returns the time until the deadline of ctx, and whether it has one.
func timeLeft(ctx context.Context) (time.Duration, bool) {
	d, ok := ctx.Deadline()
	if !ok {
		return 0, false
	}
	return time.Until(d), true
}

// Backoff returns the wait after attempt n.
func Backoff(n int) time.Duration {
	d := min(firstBackoff<<min(n-1, 6), MaxBackoff)
	return d/2 + rand.N(d/2+1)
}

// Backoff between the attempts of one request. The first wait is clientv3's
// (defaultBackoffWaitBetween); it doubles up to a second, so that a request
// which lives for the default five seconds is tried about a dozen times, and each
// wait is cut by up to a half at random, so that clients which failed together
// don't come back together.
const (
	firstBackoff = 25 * time.Millisecond
	MaxBackoff   = time.Second
)

// Pause waits for d and reports whether the request should go on: false when
// its context ended or the client was closed meanwhile.
func Pause(ctx context.Context, closing <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-closing:
	}
	return false
}
