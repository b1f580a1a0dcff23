package integration

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// noWork is work under a lock.
func noWork(context.Context) error { return nil }

// lockRequests leaves out the streams, and the checks of the keys of held locks, of methods that a
// server has seen: those come by the clock.
func lockRequests(o *observer, f func()) []string {
	var checks atomic.Int64
	o.around(func(req any) {
		if isKeyCheck(req) {
			checks.Add(1)
		}
	}, nil)
	defer o.around(nil, nil)
	seen := slices.DeleteFunc(slices.Clone(o.during(f)), func(method string) bool { return method == "LeaseKeepAlive" })
	for range checks.Load() {
		at := slices.Index(seen, "Txn")
		seen = slices.Delete(seen, at, at+1)
	}
	return seen
}

func TestWithLockInALoopTakesTwoRoundTrips(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		run := func(name string, opts ...etcd.LockOption) func() {
			return func() { require.NoError(t, c.WithLock(t.Context(), prefix(t)+name, noWork, opts...)) }
		}
		require.Equal(t, []string{"LeaseGrant", "Txn", "Txn"}, lockRequests(o, run("a")))
		for _, name := range []string{"a", "a", "b", "a"} {
			require.Equal(t, []string{"Txn", "Txn"}, lockRequests(o, run(name)))
		}
		other := etcd.WithLockTTL(time.Minute)
		require.Equal(t, []string{"LeaseGrant", "Txn", "Txn"}, lockRequests(o, run("a", other)), "another time to live")
		require.Equal(t, []string{"Txn", "Txn"}, lockRequests(o, run("a", other)))
		leases, err := c.Raw().Leases(t.Context())
		require.NoError(t, err)
		require.Len(t, leases.Leases, 2)
		require.Zero(t, queueAll(t, c, prefix(t)))
	})
}

func TestKeptLeasesAreFewAndEndSoon(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	var inside, workers sync.WaitGroup
	inside.Add(40)
	for i := range 40 {
		workers.Go(func() {
			require.NoError(t, c.WithLock(t.Context(), fmt.Sprint(prefix(t), i), func(context.Context) error {
				inside.Done()
				inside.Wait() // all at once
				return nil
			}))
		})
	}
	workers.Wait()
	count := func() int {
		leases, err := c.Raw().Leases(t.Context())
		require.NoError(t, err)
		return len(leases.Leases)
	}
	deadline := time.Now().Add(patience)
	for count() > 16 {
		require.True(t, time.Now().Before(deadline), "too many are kept")
	}
	for count() > 0 {
		require.True(t, time.Now().Before(deadline), "they are kept too long")
		select {
		case <-t.Context().Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func TestLeaseOfALostLockIsNotKept(t *testing.T) {
	t.Parallel()
	srv, f := faultyServer(t)
	c, other := client(t, config(srv)), client(t, config(srv))
	name, ctx := prefix(t)+"lock", within(t, patience)
	for what, call := range map[string]func() error{
		"lost": func() error {
			return c.WithLock(ctx, name, func(ctx context.Context) error {
				return second(c.Raw().Delete(ctx, claimOf(t, c, name)))
			})
		},
		"answer lost": func() error {
			lost := &script{answer: status.Error(codes.Unknown, "lost"), times: 1, writesOnly: true}
			return c.WithLock(f.follow(ctx, lost), name, noWork)
		},
		"panic": func() (err error) {
			defer func() { err = fmt.Errorf("panic: %v", recover()) }()
			return c.WithLock(ctx, name, func(context.Context) error { panic("bug") })
		},
		"lease revoked": func() error {
			return c.WithLock(ctx, name, func(ctx context.Context) error {
				leases, err := c.Raw().Leases(ctx)
				require.NoError(t, err)
				for _, l := range leases.Leases {
					require.NoError(t, second(c.Raw().Revoke(ctx, l.ID)))
				}
				return nil
			})
		},
	} {
		require.Error(t, call(), what)
		require.NoError(t, other.WithLock(ctx, name, noWork), "%s: the lock is free", what)
		require.NoError(t, c.WithLock(ctx, name, noWork), what)
	}
}

func TestLockOfWithLockIsClosedAfterIt(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	name, ctx := prefix(t)+"lock", within(t, patience)
	var lock *etcd.Lock
	require.NoError(t, c.WithLock(ctx, name, func(ctx context.Context) error {
		lock = etcd.LockOf(ctx)
		require.Equal(t, name, lock.Name())
		return nil
	}))
	require.ErrorIs(t, lock.Lock(ctx), etcd.ErrClosed)
	require.ErrorIs(t, second(lock.TryLock(ctx)), etcd.ErrClosed)
	require.ErrorIs(t, lock.Unlock(ctx), etcd.ErrNotHeld)
	require.NoError(t, lock.Close())
	require.NoError(t, c.WithLock(ctx, name, func(ctx context.Context) error {
		require.NoError(t, lock.Close())
		return c.Put(ctx, name+"/data", nil)
	}), "its lease belongs to another one now")
}
