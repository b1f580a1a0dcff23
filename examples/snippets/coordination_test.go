package snippets

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func lock(ctx context.Context, client *etcd.Client, doImportantWork func()) error {
	lock, err := client.NewLock("/locks/critical-section")
	if err != nil {
		return err
	}
	defer lock.Close()

	// Try to acquire lock (non-blocking)
	acquired, err := lock.TryLock(ctx)
	if !acquired {
		return errors.New("lock is held by another process")
	}

	// Perform critical work
	doImportantWork()

	// Release lock
	err = lock.Unlock(ctx)
	return err
}

func TestLockAdmitsOneAtATime(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	worked := 0
	for range 2 { // the second time shows that the first one released it
		require.NoError(t, lock(t.Context(), client, func() {
			worked++
			err := lock(t.Context(), client, func() { t.Error("two have the lock") })
			require.EqualError(t, err, "lock is held by another process")
		}))
	}
	require.Equal(t, 2, worked)
}

func lease(ctx context.Context, client *etcd.Client) error {
	// Create lease with 60 second TTL
	leaseID, err := client.Lease(60)
	if err != nil {
		return err
	}

	// Store key with lease
	err = client.PutWithLease(ctx, "/temp/session", []byte("active"), leaseID)

	// Key will automatically expire after 60 seconds
	return err
}

func TestLeaseHoldsItsKeyForAMinute(t *testing.T) {
	t.Parallel()
	client := newClient(t)
	require.NoError(t, lease(t.Context(), client))
	kv, err := client.GetKV(t.Context(), "/temp/session")
	require.NoError(t, err)
	require.Equal(t, "active", string(kv.Value))
	status, err := client.TimeToLive(t.Context(), kv.Lease)
	require.NoError(t, err)
	require.Equal(t, time.Minute, status.GrantedTTL)

	require.NoError(t, client.RevokeLease(t.Context(), kv.Lease), "as the server does after the minute")
	_, err = client.Get(t.Context(), "/temp/session")
	require.ErrorIs(t, err, etcd.ErrKeyNotFound)
}
