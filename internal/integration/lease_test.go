package integration

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestGrantGivesAtLeastTheTimeAskedFor(t *testing.T) {
	t.Parallel()
	// The election timeout of a production server, and with it its minimum.
	c := client(t, config(server(t, etcdtest.WithTick(100*time.Millisecond, time.Second))))
	ctx := within(t, patience)
	for _, test := range []struct {
		grant func() (etcd.LeaseID, error)
		want  time.Duration
	}{
		{func() (etcd.LeaseID, error) { return c.Lease(60) }, 60 * time.Second},
		{func() (etcd.LeaseID, error) { return c.Lease(1) }, 2 * time.Second},
		{func() (etcd.LeaseID, error) { return c.Grant(ctx, 10*time.Second) }, 10 * time.Second},
		{func() (etcd.LeaseID, error) { return c.Grant(ctx, 10*time.Second+1) }, 11 * time.Second},
		{func() (etcd.LeaseID, error) { return c.Grant(ctx, 1) }, 2 * time.Second},
	} {
		id, err := test.grant()
		require.NoError(t, err)
		require.NotZero(t, id)
		status, err := c.TimeToLive(ctx, id)
		require.NoError(t, err)
		require.Equal(t, test.want, status.GrantedTTL)
		require.LessOrEqual(t, status.TTL, test.want)
		require.Empty(t, status.Keys)
	}
}

func TestOutOfRangeTTLIsRefusedUnsent(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	sent := o.during(func() {
		for _, seconds := range []int64{0, -1, math.MinInt64, 9_000_000_001, math.MaxInt64} {
			_, err := c.Lease(seconds)
			require.ErrorIs(t, err, etcd.ErrInvalidTTL)
		}
		for _, ttl := range []time.Duration{0, -1, -time.Hour, math.MinInt64, math.MaxInt64} {
			_, err := c.Grant(ctx, ttl)
			require.ErrorIs(t, err, etcd.ErrInvalidTTL, ttl)
			_, err = c.PutWithTTL(ctx, p+"k", nil, ttl)
			require.ErrorIs(t, err, etcd.ErrInvalidTTL, ttl)
			_, err = c.NewLock(p+"lock", etcd.WithLockTTL(ttl))
			require.ErrorIs(t, err, etcd.ErrInvalidTTL, ttl)
		}
		_, err := c.PutWithTTL(ctx, "", nil, time.Minute)
		require.ErrorIs(t, err, etcd.ErrEmptyKey)
		_, err = c.PutWithTTL(ctx, p+"k", make([]byte, etcd.DefaultMaxRequestBytes), time.Minute)
		require.ErrorIs(t, err, etcd.ErrTooLarge)
	})
	require.Empty(t, sent)
	_, err := c.Lease(9_000_000_000)
	require.NoError(t, err)
}

func TestKeysEndWithTheirLease(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithNamespace("space/"))
	p, ctx := prefix(t), within(t, patience)
	w := c.WatchPrefix(ctx, p)

	revoked, err := c.Lease(60)
	require.NoError(t, err)
	require.NoError(t, c.PutWithLease(ctx, p+"a", []byte("v"), revoked))
	require.NoError(t, c.PutWithLease(ctx, p+"b", []byte("v"), revoked))
	_, err = c.Raw().Put(ctx, "elsewhere", "", clientv3.WithLease(clientv3.LeaseID(revoked)))
	require.NoError(t, err)
	status, err := c.TimeToLive(ctx, revoked)
	require.NoError(t, err)
	require.Equal(t, []string{p + "a", p + "b"}, status.Keys)
	require.Equal(t, revoked, events(t, w, 2)[0].Kv.Lease)
	require.NoError(t, c.RevokeLease(ctx, revoked))
	evs := next(t, w).Events
	require.Equal(t, []string{"DELETE " + p + "a= @5", "DELETE " + p + "b= @5"}, tellAll(evs))
	require.NoError(t, c.RevokeLease(ctx, revoked), "a lease that is gone")
	_, err = c.TimeToLive(ctx, revoked)
	require.ErrorIs(t, err, etcd.ErrLeaseNotFound)
	require.ErrorIs(t, c.PutWithLease(ctx, p+"a", nil, revoked), etcd.ErrLeaseNotFound)

	began := time.Now()
	id, err := c.PutWithTTL(ctx, p+"c", []byte("v"), time.Second)
	require.NoError(t, err)
	require.Equal(t, "PUT "+p+"c=v @6", told(events(t, w, 1)[0]))
	require.Equal(t, "DELETE "+p+"c= @7", told(events(t, w, 1)[0]))
	require.GreaterOrEqual(t, time.Since(began), time.Second)
	_, err = c.TimeToLive(ctx, id)
	require.ErrorIs(t, err, etcd.ErrLeaseNotFound)
}

func TestRefusedPutWithTTLLeavesNoLease(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth("root"), etcdtest.WithUser("reader", "pass", etcdtest.Permission{AllKeys: true, Read: true}))
	root := client(t, config(srv).WithAuth("root", "root"))
	c := client(t, config(srv).WithAuth("reader", "pass"))
	_, err := c.PutWithTTL(within(t, patience), prefix(t)+"k", nil, time.Minute)
	require.ErrorIs(t, err, etcd.ErrPermissionDenied)
	require.False(t, etcd.MaybeApplied(err))
	require.Zero(t, leases(t, root))
}

func TestKeepAliveOnceRenews(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := within(t, patience)
	id, err := c.Lease(60)
	require.NoError(t, err)
	ttl, err := c.KeepAliveOnce(ctx, id)
	require.NoError(t, err)
	require.Equal(t, 60*time.Second, ttl)
	require.NoError(t, c.RevokeLease(ctx, id))
	_, err = c.KeepAliveOnce(ctx, id)
	require.ErrorIs(t, err, etcd.ErrLeaseNotFound)
	_, err = c.KeepAlive(ctx, id)
	require.ErrorIs(t, err, etcd.ErrLeaseNotFound)
	_, err = c.KeepAlive(nil, id) //nolint:staticcheck // what is tested
	require.ErrorIs(t, err, etcd.ErrNilContext)
}

func TestKeepAliveLastsUntilTheLeaseIsRevoked(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, ctx := prefix(t), within(t, patience)
	const ttl = 3 * time.Second
	w := c.Watch(ctx, p+"k", etcd.WithOnly(etcd.EventDelete))
	id, err := c.PutWithTTL(ctx, p+"k", nil, ttl)
	require.NoError(t, err)
	alive, err := c.KeepAlive(ctx, id)
	require.NoError(t, err)
	began := time.Now()
	for time.Since(began) < 2*ttl {
		require.Equal(t, ttl, next(t, alive).TTL)
	}
	require.Empty(t, w, "the key is gone")
	require.NoError(t, c.RevokeLease(ctx, id))
	require.ErrorIs(t, lastRenewal(t, alive), etcd.ErrLeaseNotFound)
	events(t, w, 1)
}

func TestUnreadKeepAliveContinuesHoldingTheNewestResponse(t *testing.T) {
	t.Parallel()
	srv, counts := renewalServer(t)
	c := client(t, config(srv))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	id, err := c.Lease(3)
	require.NoError(t, err)
	alive, err := c.KeepAlive(ctx, id)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return counts.answers.Load() >= 5 }, patience, 10*time.Millisecond)
	require.Len(t, alive, 1)
	cancel()
	require.ErrorIs(t, lastRenewal(t, alive), context.Canceled)
	require.NoError(t, c.RevokeLease(t.Context(), id), "the lease itself lives on until now")
}

func TestKeepAliveEndsWithItsClient(t *testing.T) {
	t.Parallel()
	c, err := etcd.NewClient(config(server(t)))
	require.NoError(t, err)
	id, err := c.Lease(60)
	require.NoError(t, err)
	alive, err := c.KeepAlive(t.Context(), id)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.ErrorIs(t, lastRenewal(t, alive), etcd.ErrClosed)
	_, err = c.KeepAlive(t.Context(), id)
	require.ErrorIs(t, err, etcd.ErrClosed)
}

func TestKeepAliveReportsALostLeaseInTime(t *testing.T) {
	t.Parallel()
	srv := server(t)
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()))
	direct := client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	const ttl = 2 * time.Second
	ends := direct.Watch(ctx, p+"k", etcd.WithOnly(etcd.EventDelete))
	id, err := c.PutWithTTL(ctx, p+"k", nil, ttl)
	require.NoError(t, err)
	alive, err := c.KeepAlive(ctx, id)
	require.NoError(t, err)
	pace := keepPace(t)
	next(t, alive)
	next(t, alive) // the second renewal has just been answered
	proxy.Blackhole()
	began := time.Now()
	require.ErrorIs(t, lastRenewal(t, alive), etcd.ErrLeaseLost)
	lost := time.Since(began)
	events(t, ends, 1)
	t.Logf("TTL %v: lost after %v, key gone after %v", ttl, lost.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	require.Greater(t, pace.allow(lost), ttl/2)
	require.Less(t, lost, pace.allow(ttl))
}

func TestKeepAliveSurvivesRestartsShorterThanTheLease(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv))
	p, ctx := prefix(t), within(t, patience)
	id, err := c.PutWithTTL(ctx, p+"k", nil, 4*time.Second)
	require.NoError(t, err)
	alive, err := c.KeepAlive(ctx, id)
	require.NoError(t, err)
	next(t, alive)
	began := time.Now()
	require.NoError(t, srv.Restart())
	for time.Since(began) < 6*time.Second {
		require.NoError(t, next(t, alive).Err())
	}
	status, err := c.TimeToLive(ctx, id)
	require.NoError(t, err)
	require.Equal(t, []string{p + "k"}, status.Keys)
}
