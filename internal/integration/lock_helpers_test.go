package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/blueprint-go/etcd"
)

// newLock returns a lock for one test.
func newLock(t testing.TB, c *etcd.Client, name string, opts ...etcd.LockOption) *etcd.Lock {
	t.Helper()
	l, err := c.NewLock(name, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// queue returns how many hold a lock or wait for it.
func queue(t testing.TB, c *etcd.Client, name string) int64 {
	t.Helper()
	n, err := c.Count(t.Context(), name+"\x00")
	require.NoError(t, err)
	return n
}

// queues waits until n hold a lock or wait for it.
func queues(t testing.TB, c *etcd.Client, name string, n int64) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for got := queue(t, c, name); got != n; got = queue(t, c, name) {
		require.True(t, time.Now().Before(deadline), "%d in the queue instead of %d", got, n)
	}
}

// acquisitions are the ways to take a lock.
var acquisitions = map[string]func(context.Context, *etcd.Lock) (bool, error){
	"lock": func(ctx context.Context, l *etcd.Lock) (bool, error) { err := l.Lock(ctx); return err == nil, err },
	"try":  func(ctx context.Context, l *etcd.Lock) (bool, error) { return l.TryLock(ctx) },
}

// ownKey returns the key of the one that holds a lock.
func ownKey(t testing.TB, c *etcd.Client, name string) string {
	t.Helper()
	resp, err := c.Raw().Get(t.Context(), name+"\x00", clientv3.WithPrefix())
	require.NoError(t, err)
	require.Len(t, resp.Kvs, 1)
	return string(resp.Kvs[0].Key)
}

// mutex returns a mutex with a session of its own.
func mutex(t testing.TB, c *clientv3.Client, name string) (*concurrency.Mutex, *concurrency.Session) {
	t.Helper()
	s, err := concurrency.NewSession(c, concurrency.WithTTL(60))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return concurrency.NewMutex(s, name), s
}

// keysUnder waits until n keys are there that begin with a prefix.
func keysUnder(t testing.TB, c *clientv3.Client, prefix string, n int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		resp, err := c.Get(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && resp.Count == n
	}, patience, 10*time.Millisecond)
}
