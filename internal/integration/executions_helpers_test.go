package integration

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// write is one way to change something. begin prepares it under a key of its
// own, and the function that it returns is one call. raw is the same by clientv3,
// where that has it.
type write struct {
	name  string
	begin func(t *testing.T, c *etcd.Client, key string) func(context.Context) error
	raw   func(ctx context.Context, c *clientv3.Client, key string) error
}

var writesOfTheAPI = []write{
	{
		"put",
		func(_ *testing.T, c *etcd.Client, key string) func(context.Context) error {
			return func(ctx context.Context) error { return c.Put(ctx, key, []byte("new")) }
		},
		func(ctx context.Context, c *clientv3.Client, key string) error {
			_, err := c.Put(ctx, key, "new")
			return err
		},
	},
	{
		"delete",
		func(_ *testing.T, c *etcd.Client, key string) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := c.Delete(ctx, key)
				return err
			}
		},
		func(ctx context.Context, c *clientv3.Client, key string) error {
			_, err := c.Delete(ctx, key)
			return err
		},
	},
	{
		"txn",
		func(_ *testing.T, c *etcd.Client, key string) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := c.Txn().If(etcd.Missing(key)).Then(etcd.OpPut(key, nil)).Commit(ctx)
				return err
			}
		},
		func(ctx context.Context, c *clientv3.Client, key string) error {
			_, err := c.Txn(ctx).Then(clientv3.OpPut(key, "new")).Commit()
			return err
		},
	},
	{
		"nested txn",
		func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
			require.NoError(t, c.Put(t.Context(), key, []byte("old")))
			return func(ctx context.Context) error {
				_, err := c.Txn().If(etcd.Exists(key)).Then(etcd.OpTxn(
					c.Txn().If(etcd.Value(key).Equal([]byte("old"))).Then(etcd.OpPut(key, nil)),
				)).Commit(ctx)
				return err
			}
		},
		func(ctx context.Context, c *clientv3.Client, key string) error {
			_, err := c.Txn(ctx).Then(clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(key, "new")}, nil)).Commit()
			return err
		},
	},
	{
		"grant",
		func(_ *testing.T, c *etcd.Client, _ string) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := c.Grant(ctx, time.Minute)
				return err
			}
		},
		func(ctx context.Context, c *clientv3.Client, _ string) error {
			_, err := c.Grant(ctx, 60)
			return err
		},
	},
	{
		"bulk put",
		func(_ *testing.T, c *etcd.Client, key string) func(context.Context) error {
			return func(ctx context.Context) error {
				return c.BulkPut(ctx, map[string][]byte{key + "1": nil, key + "2": nil})
			}
		},
		nil,
	},
	{
		"chunks",
		func(_ *testing.T, c *etcd.Client, key string) func(context.Context) error {
			return func(ctx context.Context) error {
				return c.BulkPut(ctx, map[string][]byte{key + "1": nil, key + "2": nil}, etcd.InChunks())
			}
		},
		nil,
	},
	{
		"bulk delete",
		func(_ *testing.T, c *etcd.Client, key string) func(context.Context) error {
			return func(ctx context.Context) error { return second(c.BulkDelete(ctx, []string{key, key + "2"})) }
		},
		nil,
	},
	{
		"bulk load",
		func(_ *testing.T, c *etcd.Client, key string) func(context.Context) error {
			return func(ctx context.Context) error {
				return second(c.BulkLoad(ctx, maps.All(map[string][]byte{key + "1": nil, key + "2": nil})))
			}
		},
		nil,
	},
	{
		"cas",
		func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
			require.NoError(t, c.Put(t.Context(), key, []byte("old")))
			return func(ctx context.Context) error {
				_, err := c.CompareAndSwap(ctx, key, []byte("old"), []byte("new"))
				return err
			}
		},
		nil,
	},
	{
		"update",
		func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
			require.NoError(t, c.Put(t.Context(), key, []byte("old")))
			return func(ctx context.Context) error {
				return c.Update(ctx, key, func(old []byte) ([]byte, error) { return append(old, '+'), nil })
			}
		},
		nil,
	},
	{
		"transact",
		func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
			require.NoError(t, c.Put(t.Context(), key, []byte("0")))
			return func(ctx context.Context) error {
				return c.Transact(ctx, func(tx *etcd.Tx) error { return incrementIn(tx, key) })
			}
		},
		nil,
	},
	{
		"put if absent",
		func(_ *testing.T, c *etcd.Client, key string) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := c.PutIfNotExists(ctx, key, nil)
				return err
			}
		},
		nil,
	},
	{
		"import",
		func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
			require.NoError(t, c.Put(t.Context(), key, []byte("old")))
			file := exported(t, c, key)
			return func(ctx context.Context) error { return second(c.Import(ctx, strings.NewReader(file))) }
		},
		nil,
	},
	{
		"move",
		func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
			require.NoError(t, c.Put(t.Context(), key, nil))
			return func(ctx context.Context) error { return c.MoveKey(ctx, key, key+"-moved") }
		},
		nil,
	},
	{
		"copy",
		func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
			require.NoError(t, c.Put(t.Context(), key, nil))
			return func(ctx context.Context) error { return c.CopyKey(ctx, key, key+"-copied") }
		},
		nil,
	},
	{
		"put if changed",
		func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
			require.NoError(t, c.Put(t.Context(), key, nil))
			return func(ctx context.Context) error {
				_, err := c.PutIfChanged(ctx, key, []byte("new"))
				return err
			}
		},
		nil,
	},
	{
		"lock",
		func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
			lock, err := c.NewLock(key)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, lock.Close()) })
			return lock.Lock
		},
		nil,
	},
	{
		"try lock",
		func(t *testing.T, c *etcd.Client, key string) func(context.Context) error {
			lock, err := c.NewLock(key)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, lock.Close()) })
			return func(ctx context.Context) error {
				_, err := lock.TryLock(ctx)
				return err
			}
		},
		nil,
	},
}
