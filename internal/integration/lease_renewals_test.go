package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestLeasesOfAClientShareOneRenewalStream(t *testing.T) {
	t.Parallel()
	srv, counts := renewalServer(t)
	c := client(t, config(srv))
	ctx := within(t, patience)
	const n, ttl = 20, 3 * time.Second
	var alive []<-chan etcd.KeepAliveResponse
	for i := range n {
		id, err := c.Grant(ctx, ttl)
		require.NoError(t, err)
		renewals, err := c.KeepAlive(ctx, id)
		require.NoError(t, err)
		alive = append(alive, renewals)
		require.NoError(t, newLock(t, c, fmt.Sprint(prefix(t), i), etcd.WithLockTTL(ttl)).Lock(ctx))
	}
	before := counts.answers.Load()
	require.Eventually(t, func() bool { return counts.answers.Load() >= before+20*n }, patience, 10*time.Millisecond)
	for _, renewals := range alive {
		require.NoError(t, next(t, renewals).Err())
	}
	require.LessOrEqual(t, counts.streams.Load(), int64(5), "one, and others where this machine is slow")
}

func TestRenewalsGoOnBehindGRPCProxy(t *testing.T) {
	t.Parallel()
	srv := server(t)
	endpoint := grpcProxy(t, srv)
	c := client(t, etcd.DefaultConfig().WithEndpoints(endpoint))
	name, ctx := prefix(t)+"lock", within(t, 2*patience)
	// The proxy answers when it hears of a lease itself: 1.5 s after it last did, for a
	// time to live of 4 s. The time before the second answer counts from the call.
	const ttl = 5 * time.Second
	lock := newLock(t, c, name, etcd.WithLockTTL(4*time.Second))
	require.NoError(t, lock.Lock(ctx))
	token := lock.Token()
	id, err := c.PutWithTTL(ctx, prefix(t)+"key", nil, ttl)
	require.NoError(t, err)
	left, err := c.KeepAliveOnce(ctx, id)
	require.NoError(t, err)
	require.Equal(t, ttl, left)
	alive, err := c.KeepAlive(ctx, id)
	require.NoError(t, err)
	for began := time.Now(); time.Since(began) < 2*ttl; {
		require.NoError(t, next(t, alive).Err())
	}
	require.NoError(t, context.Cause(lock.Context()))
	require.Equal(t, token, lock.Token())
	exists, err := c.Exists(ctx, prefix(t)+"key")
	require.NoError(t, err)
	require.True(t, exists)
	require.NoError(t, lock.Unlock(ctx))
	require.NoError(t, c.RevokeLease(ctx, id))
	require.ErrorIs(t, lastRenewal(t, alive), etcd.ErrLeaseNotFound)
}
