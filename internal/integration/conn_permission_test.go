package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestPermissionDeniedNamesTheKey(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth("root-password"), etcdtest.WithUser("app", "password",
		etcdtest.Permission{Prefix: "own/", Read: true, Write: true},
		etcdtest.Permission{Prefix: "shared/", Read: true}))
	root := client(t, config(srv).WithAuth("root", "root-password"))
	require.NoError(t, root.BulkPut(t.Context(), map[string][]byte{"shared/k": []byte("1"), "other/k": []byte("2")}))

	for _, m := range modes[:3] {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			c := client(t, m.set(config(srv)).WithAuth("app", "password"))
			ctx := within(t, busyTimeout)
			own := "own/" + m.name
			require.NoError(t, c.Put(ctx, own, nil))
			require.NoError(t, second(c.CompareAndSwap(ctx, own, nil, []byte("1"))))
			require.NoError(t, c.Update(ctx, own, increment))
			require.NoError(t, second(c.Get(ctx, own)))
			require.NoError(t, second(c.List(ctx, "shared/")))

			for key, denied := range deniedCalls(ctx, c) {
				for name, call := range denied {
					err := call()
					require.ErrorIs(t, err, etcd.ErrPermissionDenied, name)
					require.False(t, etcd.MaybeApplied(err), name)
					require.False(t, etcd.IsRetryable(err), name)
					var e *etcd.Error
					require.ErrorAs(t, err, &e, name)
					require.Equal(t, key, e.Key, name)
					require.ErrorContains(t, err, key, name)
				}
			}
			// A bulk is denied for one of its keys and does nothing.
			err := c.BulkPut(ctx, map[string][]byte{own + "2": nil, "shared/k": nil})
			require.ErrorIs(t, err, etcd.ErrPermissionDenied)
			require.False(t, etcd.MaybeApplied(err))
			require.ErrorIs(t, second(c.Get(ctx, own+"2")), etcd.ErrKeyNotFound)
		})
	}
}

// deniedCalls are calls that the user of the test has no permission for, by the
// key that it is missing for.
func deniedCalls(ctx context.Context, c *etcd.Client) map[string]map[string]func() error {
	return map[string]map[string]func() error{
		"shared/k": {
			"Put":            func() error { return c.Put(ctx, "shared/k", nil) },
			"Delete":         func() error { return second(c.Delete(ctx, "shared/k")) },
			"PutIfNotExists": func() error { return second(c.PutIfNotExists(ctx, "shared/k", nil)) },
			"PutWithTTL":     func() error { return second(c.PutWithTTL(ctx, "shared/k", nil, time.Minute)) },
		},
		"other/k": {
			"Get":            func() error { return second(c.Get(ctx, "other/k")) },
			"Exists":         func() error { return second(c.Exists(ctx, "other/k")) },
			"Update":         func() error { return c.Update(ctx, "other/k", increment) },
			"MoveKey":        func() error { return c.MoveKey(ctx, "other/k", "own/moved") },
			"CompareAndSwap": func() error { return second(c.CompareAndSwap(ctx, "other/k", nil, nil)) },
			"Watch":          func() error { return lastOf(c.Watch(ctx, "other/k")) },
			"Txn":            func() error { return second(c.Txn().Then(etcd.OpGet("other/k")).Commit(ctx)) },
		},
		"other/": {
			"List":         func() error { return second(c.List(ctx, "other/")) },
			"Count":        func() error { return second(c.Count(ctx, "other/")) },
			"DeletePrefix": func() error { return second(c.DeletePrefix(ctx, "other/")) },
			"WatchPrefix":  func() error { return lastOf(c.WatchPrefix(ctx, "other/")) },
		},
	}
}
