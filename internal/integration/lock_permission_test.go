package integration

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// The time to live is so long that no renewal is refused before.
func TestHolderWithoutPermissionIsToldOfADeletion(t *testing.T) {
	t.Parallel()
	p := prefix(t)
	srv, o := observedServer(t, etcdtest.WithAuth("root"),
		etcdtest.WithUser("u", "pw", etcdtest.Permission{Prefix: p, Read: true, Write: true}))
	root := client(t, config(srv).WithAuth("root", "root"))
	u := client(t, config(srv).WithAuth("u", "pw"))
	ctx := within(t, patience)
	require.NoError(t, root.Put(ctx, "/", nil)) // gets the token for Raw
	var locks []*etcd.Lock
	for _, name := range []string{"deleted", "kept"} {
		l, err := u.NewLock(p+name, etcd.WithLockTTL(time.Hour)) // u can't release it in the end
		require.NoError(t, err)
		require.NoError(t, l.Lock(ctx))
		locks = append(locks, l)
	}
	_, err := root.Raw().RoleRevokePermission(ctx, "u", p, clientv3.GetPrefixRangeEnd(p))
	require.NoError(t, err)
	var looks atomic.Int64
	o.around(func(req any) {
		if _, ok := req.(*pb.LeaseTimeToLiveRequest); ok {
			looks.Add(1)
		}
	}, nil)
	require.Eventually(t, func() bool { return looks.Load() > 4 }, patience, time.Millisecond)
	for _, l := range locks {
		require.NoError(t, l.Context().Err(), "nobody has touched it")
	}

	require.NoError(t, second(root.Raw().Delete(ctx, ownKey(t, root, p+"deleted"))))
	closes(t, locks[0].Context().Done())
	require.ErrorIs(t, context.Cause(locks[0].Context()), etcd.ErrLockKeyDeleted)
	seen := looks.Load()
	require.Eventually(t, func() bool { return looks.Load() > seen+2 }, patience, time.Millisecond)
	require.NoError(t, locks[1].Context().Err())
}
