package integration

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// holder is what several claims are held by.
type holder interface {
	Name() string
	Context() context.Context
	Guard(ctx context.Context) context.Context
	Held() etcd.Condition
	Token() int64
	Close() error
}

// claimant is one way to hold something.
type claimant struct {
	holder
	take    func(ctx context.Context) error
	try     func(ctx context.Context) (bool, error)
	release func(ctx context.Context) error
}

// claimKind is a kind of claim, and that of one which excludes it.
type claimKind struct {
	of      func(t testing.TB, c *etcd.Client, name string, opts ...etcd.SeatOption) claimant
	against func(t testing.TB, c *etcd.Client, name string, opts ...etcd.SeatOption) claimant
}

// claimKinds are the kinds of claims of which one value may hold several.
var claimKinds = map[string]claimKind{
	"reader":         {readerOf, writerOf},
	"writer":         {writerOf, readerOf},
	"semaphore of 1": {semaphoreOf(1, 1), semaphoreOf(1, 1)},
	"heavy":          {semaphoreOf(3, 2), semaphoreOf(3, 2)},
}

// newRWLock returns a read-write lock for one test.
func newRWLock(t testing.TB, c *etcd.Client, name string, opts ...etcd.SeatOption) *etcd.RWLock {
	t.Helper()
	var all []etcd.LockOption
	for _, opt := range opts {
		all = append(all, opt)
	}
	l, err := c.NewRWLock(name, all...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// newSemaphore returns a semaphore for one test.
func newSemaphore(t testing.TB, c *etcd.Client, name string, size int, opts ...etcd.SemaphoreOption) *etcd.Semaphore {
	t.Helper()
	s, err := c.NewSemaphore(name, size, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func readerOf(t testing.TB, c *etcd.Client, name string, opts ...etcd.SeatOption) claimant {
	l := newRWLock(t, c, name, opts...)
	return claimant{l, l.RLock, l.TryRLock, l.RUnlock}
}

func writerOf(t testing.TB, c *etcd.Client, name string, opts ...etcd.SeatOption) claimant {
	l := newRWLock(t, c, name, opts...)
	return claimant{l, l.Lock, l.TryLock, l.Unlock}
}

// semaphoreOf returns what takes a weight of a semaphore of a size.
func semaphoreOf(size, weight int) func(testing.TB, *etcd.Client, string, ...etcd.SeatOption) claimant {
	return func(t testing.TB, c *etcd.Client, name string, opts ...etcd.SeatOption) claimant {
		all := []etcd.SemaphoreOption{etcd.WithWeight(weight)}
		for _, opt := range opts {
			all = append(all, opt)
		}
		s := newSemaphore(t, c, name, size, all...)
		return claimant{s, s.Acquire, s.TryAcquire, s.Release}
	}
}

// eachClaimKind runs a test for each kind, in parallel.
func eachClaimKind(t *testing.T, test func(t *testing.T, kind claimKind)) {
	t.Helper()
	for name, kind := range claimKinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

// ways are the two ways to take a claim.
func (c claimant) ways() map[string]func(ctx context.Context) (bool, error) {
	return map[string]func(ctx context.Context) (bool, error){
		"take": func(ctx context.Context) (bool, error) { err := c.take(ctx); return err == nil, err },
		"try":  c.try,
	}
}

// taking takes a claim in the background, and returns when n hold or wait.
func (c claimant) taking(t testing.TB, ctx context.Context, observer *etcd.Client, n int64) <-chan error {
	t.Helper()
	taken := make(chan error, 1)
	go func() { taken <- c.take(ctx) }()
	queues(t, observer, c.Name(), n)
	return taken
}

// settles takes a claim and gives it back, again if its lease was shorter than a stall of this
// machine.
func (c claimant) settles(t testing.TB, ctx context.Context) {
	t.Helper()
	err := etcd.ErrLockLost
	for errors.Is(err, etcd.ErrLockLost) {
		if err = c.take(ctx); err == nil {
			err = c.release(ctx)
		}
	}
	require.NoError(t, err)
}

// tries tries to take a claim, which must not fail.
func (c claimant) tries(t testing.TB, ctx context.Context) bool {
	t.Helper()
	taken, err := c.try(ctx)
	require.NoError(t, err)
	return taken
}

// queueingClient returns a client and a channel that gets a value when the client knows of a
// place in a queue, which the server knows earlier.
func queueingClient(t testing.TB, cfg *etcd.Config) (*etcd.Client, <-chan struct{}) {
	t.Helper()
	inQueue := make(chan struct{}, 1)
	return client(t, cfg.WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if !slices.Contains([]string{"lock", "read lock", "acquire", "campaign"}, req.Op) {
			return
		}
		select {
		case inQueue <- struct{}{}:
		default: // a later request of the same wait
		}
	}})), inQueue
}
