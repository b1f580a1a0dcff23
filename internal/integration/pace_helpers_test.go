package integration

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// pace measures how long this process waits for the machine while a test takes
// times. What a test holds of a time is then as strict as the machine is quiet.
type pace struct{ worst atomic.Int64 }

const (
	paceTick = 2 * time.Millisecond
	// paceSteps is how many times what is measured may have had to wait for its turn:
	// a request passes through a dozen goroutines here and in the server.
	paceSteps = 20
)

// keepPace starts to measure, until the test ends.
func keepPace(t testing.TB) *pace {
	t.Helper()
	p, stop, stopped := &pace{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for due := time.Now(); ; {
			due = due.Add(paceTick)
			timer := time.NewTimer(time.Until(due))
			select {
			case <-timer.C:
			case <-stop:
				timer.Stop()
				return
			}
			now := time.Now()
			p.worst.Store(max(p.worst.Load(), int64(now.Sub(due))))
			due = now
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
	})
	return p
}

// failsWith calls until the call fails with want, and returns the error. On a busy machine
// a call's time may be up before there is a reason that it could tell. It never succeeds.
func failsWith(t testing.TB, want error, call func() error) error {
	t.Helper()
	var err error
	require.Eventually(t, func() bool {
		err = call()
		return err == nil || errors.Is(err, want)
	}, patience, time.Millisecond)
	require.ErrorIs(t, err, want)
	return err
}

// isRefused waits until the endpoint of a client has refused it.
func isRefused(t testing.TB, c *etcd.Client) {
	t.Helper()
	_ = failsWith(t, etcd.ErrConnectionRefused, func() error {
		return second(c.Get(within(t, 100*time.Millisecond), "key"))
	})
}

// allow returns how long something may take that takes at most limit on a machine
// with nothing else to do.
func (p *pace) allow(limit time.Duration) time.Duration {
	return limit + paceSteps*time.Duration(p.worst.Load())
}
