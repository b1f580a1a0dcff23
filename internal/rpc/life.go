package rpc

import (
	"sync"
	"sync/atomic"

	"github.com/blueprint-go/etcd/internal/errs"
)

// Life is how long a client lives, and what has to end before it is gone. Safe for
// concurrent use.
type Life struct {
	// closing is closed before anything else is.
	closing chan struct{}
	closed  atomic.Bool
	// background counts what ends when closing is closed. mu keeps Wait from waiting
	// while something is added.
	mu         sync.Mutex
	background sync.WaitGroup
}

func newLife() *Life { return &Life{closing: make(chan struct{})} }

// Closing returns a channel that is closed when the life ends.
func (l *Life) Closing() <-chan struct{} { return l.closing }

// IsClosed reports whether the life has ended.
func (l *Life) IsClosed() bool { return l.closed.Load() }

// Start runs f in a goroutine that Wait waits for; f must end when Closing is closed.
// It returns ErrClosed, without running f, if that has happened.
func (l *Life) Start(f func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() {
		return errs.ErrClosed
	}
	l.background.Go(f)
	return nil
}

// Retain has Wait wait for something in the background that goroutines come and go for,
// until Release is called. That must happen soon after Closing is closed. Retain returns
// ErrClosed if it is closed already.
func (l *Life) Retain() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() {
		return errs.ErrClosed
	}
	l.background.Add(1)
	return nil
}

// Release ends what Retain began.
func (l *Life) Release() { l.background.Done() }

// Stop ends what is under way, and refuses what comes later. It is called once.
func (l *Life) Stop() {
	l.mu.Lock()
	l.closed.Store(true)
	l.mu.Unlock()
	close(l.closing)
}

// Wait waits for what was started and retained. It comes after Stop.
func (l *Life) Wait() { l.background.Wait() }
