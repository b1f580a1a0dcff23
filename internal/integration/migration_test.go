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

// What docs/migration.md says of locks: the provider's are clientv3's.
func TestLocksDifferFromTheProvidersAsDocumented(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithTimeout(busyTimeout))
	ctx, name := within(t, busyTimeout), prefix(t)+"lock"
	session, err := concurrency.NewSession(c.Raw())
	require.NoError(t, err)
	defer session.Close()
	lease, err := c.TimeToLive(ctx, etcd.LeaseID(session.Lease()))
	require.NoError(t, err)
	require.Equal(t, time.Minute, lease.GrantedTTL)
	require.Equal(t, 15*time.Second, etcd.DefaultLockTTL)

	mutex := concurrency.NewMutex(session, name)
	require.NoError(t, mutex.Lock(ctx))
	require.NoError(t, mutex.Lock(ctx), "again by its holder")
	l, err := c.NewLock(name)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	acquired, err := l.TryLock(ctx)
	require.NoError(t, err)
	require.True(t, acquired, "they don't exclude each other")

	again, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, l.Lock(again), context.DeadlineExceeded, "not reentrant")
	other, err := c.NewLock(name)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	locked, err := other.IsLocked(ctx)
	require.NoError(t, err)
	require.True(t, locked, "by anybody")
	require.Error(t, other.Context().Err(), "not by this one")
	_, err = other.TryLock(again)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, l.Unlock(ctx))
	require.ErrorIs(t, l.Unlock(ctx), etcd.ErrNotHeld)
}

// The same of lists.
func TestListsDifferFromTheProvidersAsDocumented(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithTimeout(busyTimeout))
	ctx := within(t, busyTimeout)
	require.NoError(t, c.BulkPut(ctx, map[string][]byte{"/users/1": nil, "/users/2": nil, "/users/deep/2": nil}))
	raw, err := c.Raw().Get(ctx, "/users/1", clientv3.WithRange(""))
	require.NoError(t, err)
	require.Len(t, raw.Kvs, 1)
	kvs, err := c.GetRange(ctx, "/users/1", "")
	require.NoError(t, err)
	require.Len(t, kvs, 3)
	keys, err := c.GetKeysByPattern(ctx, "/users/*2*")
	require.NoError(t, err)
	require.Equal(t, []string{"/users/2"}, keys)
}
