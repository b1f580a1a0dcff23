package integration

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestHolderLearnsThatItsKeyIsGone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(ctx context.Context, c *etcd.Client, name string) error
		want  error
	}{
		"deleted by prefix": {func(ctx context.Context, c *etcd.Client, name string) error {
			return second(c.DeletePrefix(ctx, name))
		}, etcd.ErrLockKeyDeleted},
		"deleted and made again": {func(ctx context.Context, c *etcd.Client, name string) error {
			key := ownKey(t, c, name)
			_, err := c.Raw().Delete(ctx, key)
			return errors.Join(err, second(c.Raw().Put(ctx, key, "")))
		}, etcd.ErrLockKeyReplaced},
		"put over": {func(ctx context.Context, c *etcd.Client, name string) error {
			return second(c.Raw().Put(ctx, ownKey(t, c, name), "restored"))
		}, etcd.ErrLockKeyReplaced},
		"bound to another lease": {func(ctx context.Context, c *etcd.Client, name string) error {
			id, err := c.Grant(ctx, time.Hour)
			return errors.Join(err, second(c.Raw().Put(ctx, ownKey(t, c, name), "", clientv3.WithLease(clientv3.LeaseID(id)))))
		}, etcd.ErrLockKeyReplaced},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := client(t, config(server(t)))
			ctx, lock := within(t, patience), prefix(t)+"lock"
			holder, sibling := newLock(t, c, lock), newLock(t, c, prefix(t)+"sibling")
			require.NoError(t, holder.Lock(ctx))
			require.NoError(t, sibling.Lock(ctx))
			held := holder.Context()
			began := time.Now()
			require.NoError(t, test.spoil(ctx, c, lock))
			closes(t, held.Done())
			t.Logf("told after %v", time.Since(began).Round(time.Millisecond))
			require.ErrorIs(t, context.Cause(held), etcd.ErrLockLost)
			require.ErrorIs(t, context.Cause(held), test.want)
			require.NoError(t, sibling.Context().Err())

			for _, err := range []error{holder.Lock(ctx), second(holder.TryLock(ctx)), holder.Unlock(ctx)} {
				require.ErrorIs(t, err, etcd.ErrLockLost)
				require.ErrorIs(t, err, test.want)
			}
			if name == "deleted and made again" { // that is another's key
				require.NoError(t, second(c.Raw().Delete(ctx, ownKey(t, c, lock))))
			}
			require.NoError(t, holder.Lock(ctx), "nothing is left in the way")
			require.NoError(t, holder.Unlock(ctx))
		})
	}
}

func TestKeysOfManyLocksAreWatchedTogether(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	ctx := within(t, patience)
	const n = 300
	var locks []*etcd.Lock
	for i := range n {
		l := newLock(t, c, prefix(t)+string(rune('a'+i%26))+"/"+string(rune('0'+i/26)))
		require.NoError(t, l.Lock(ctx))
		locks = append(locks, l)
	}
	key := ownKey(t, c, locks[n/2].Name())
	var requests, keys atomic.Int64
	o.around(func(req any) {
		if txn, ok := req.(*pb.TxnRequest); ok && len(txn.Compare) == 0 {
			requests.Add(1)
			keys.Add(int64(len(txn.Success)))
		}
	}, nil)
	require.NoError(t, second(c.Raw().Delete(ctx, key)))
	closes(t, locks[n/2].Context().Done())
	require.Positive(t, requests.Load())
	require.Greater(t, keys.Load()/requests.Load(), int64(10), "those taken at about the same time are read together")
	for i, l := range locks {
		require.Equal(t, i == n/2, l.Context().Err() != nil, i)
	}
}

func TestLossTellsItsReason(t *testing.T) {
	t.Parallel()
	p := prefix(t)
	srv := server(t, etcdtest.WithAuth("root"),
		etcdtest.WithUser("u", "pw", etcdtest.Permission{Prefix: p, Read: true, Write: true}))
	root := client(t, config(srv).WithAuth("root", "root"))
	u := client(t, config(srv).WithAuth("u", "pw"))
	ctx := within(t, patience)
	const ttl = 3 * time.Second
	require.NoError(t, root.Put(ctx, "/", nil))          // gets the token for Raw
	l, err := u.NewLock(p+"lock", etcd.WithLockTTL(ttl)) // which u can't revoke in the end
	require.NoError(t, err)
	require.NoError(t, l.Lock(ctx))
	id, err := u.Grant(ctx, ttl)
	require.NoError(t, err)
	bare, err := u.KeepAlive(ctx, id) // has no keys, so that its renewals are allowed
	require.NoError(t, err)
	_, err = root.Raw().RoleRevokePermission(ctx, "u", p, clientv3.GetPrefixRangeEnd(p))
	require.NoError(t, err)
	if !since(t, srv, 3, 6) { // these renew for everybody
		requireRenewals(t, bare, 17)
		require.NoError(t, l.Context().Err(), "held for two TTLs")
		held, err := root.Raw().Get(ctx, ownKey(t, root, l.Name()))
		require.NoError(t, err)
		require.NoError(t, root.RevokeLease(ctx, etcd.LeaseID(held.Kvs[0].Lease)))
		closes(t, l.Context().Done())
		require.ErrorIs(t, context.Cause(l.Context()), etcd.ErrLeaseNotFound)
		require.NotErrorIs(t, context.Cause(l.Context()), etcd.ErrPermissionDenied)

		require.NoError(t, second(root.Raw().UserChangePassword(ctx, "u", "new")))
		requireRenewals(t, bare, 17)
		require.NoError(t, root.RevokeLease(ctx, id))
		require.ErrorIs(t, lastRenewal(t, bare), etcd.ErrLeaseNotFound)
		return
	}
	closes(t, l.Context().Done())
	require.ErrorIs(t, context.Cause(l.Context()), etcd.ErrLeaseLost)
	require.ErrorIs(t, context.Cause(l.Context()), etcd.ErrPermissionDenied)
	require.NoError(t, next(t, bare).Err(), "the refusal is not about it")

	_, err = root.Raw().UserChangePassword(ctx, "u", "new")
	require.NoError(t, err)
	require.ErrorIs(t, lastRenewal(t, bare), etcd.ErrAuthFailed)
}

// requireRenewals waits for the next n renewals, each of which must succeed. They
// come eight to a TTL.
func requireRenewals(t *testing.T, c <-chan etcd.KeepAliveResponse, n int) {
	t.Helper()
	for range n {
		require.NoError(t, next(t, c).Err())
	}
}

func TestClosedLockSaysWhatIsClosed(t *testing.T) {
	t.Parallel()
	c, err := etcd.NewClient(config(server(t)))
	require.NoError(t, err)
	closed, orphan := newLock(t, c, prefix(t)+"a"), newLock(t, c, prefix(t)+"b")
	require.NoError(t, closed.Close())
	for _, err := range []error{closed.Lock(t.Context()), second(closed.TryLock(t.Context()))} {
		require.ErrorIs(t, err, etcd.ErrClosed)
		require.ErrorContains(t, err, "lock is closed")
	}
	require.NoError(t, c.Close())
	err = orphan.Lock(t.Context())
	require.ErrorIs(t, err, etcd.ErrClosed)
	require.ErrorContains(t, err, "client is closed")
}

func TestPutWithLeaseZeroIsRefused(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	require.Empty(t, o.during(func() {
		require.ErrorIs(t, c.PutWithLease(t.Context(), "k", nil, 0), etcd.ErrInvalidArgument)
	}))
}

func TestClientThatCannotEncryptCanLock(t *testing.T) {
	t.Parallel()
	key, err := etcd.NewEncryptionKey(testKey)
	require.NoError(t, err)
	ring, err := etcd.NewKeyring(nil, key)
	require.NoError(t, err)
	c := client(t, config(server(t)).WithKeyring(ring))
	ctx := within(t, patience)
	require.ErrorIs(t, c.Put(ctx, prefix(t)+"k", nil), etcd.ErrNoPrimaryKey)
	l := newLock(t, c, prefix(t)+"lock")
	require.NoError(t, l.Lock(ctx))
	require.NoError(t, l.Unlock(ctx))
	acquired, err := l.TryLock(ctx)
	require.NoError(t, err)
	require.True(t, acquired)
	require.NoError(t, l.Unlock(ctx))
}
