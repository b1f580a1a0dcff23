package integration

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// swapIncrement adds one by compare-and-swap, however often that takes.
func swapIncrement(ctx context.Context, c *etcd.Client, key string) error {
	for {
		old, err := c.Get(ctx, key)
		if err != nil {
			return err
		}
		value, err := increment(old)
		if err != nil {
			return err
		}
		swapped, err := c.CompareAndSwap(ctx, key, old, value)
		if swapped || err != nil {
			return err
		}
	}
}

func TestIncrementsUnderEncryptionAreNeverLost(t *testing.T) {
	t.Parallel()
	const workers = 8
	for name, add := range map[string]func(ctx context.Context, c *etcd.Client, key string) error{
		"Update":                 func(ctx context.Context, c *etcd.Client, key string) error { return c.Update(ctx, key, increment) },
		"Get and CompareAndSwap": swapIncrement,
		"Transact":               transactIncrement,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, o := observedServer(t)
			ctx, key := within(t, 10*busyTimeout), prefix(t)
			clients := make([]*etcd.Client, workers)
			for i := range clients {
				clients[i] = client(t, config(srv).WithEncryption(testKey).WithTimeout(10*busyTimeout))
			}
			require.NoError(t, clients[0].Put(ctx, key, []byte("0")))
			trips := o.during(func() {
				var working sync.WaitGroup
				for _, c := range clients {
					working.Go(func() {
						for range *increments / workers {
							if !assert.NoError(t, add(ctx, c, key)) {
								return
							}
						}
					})
				}
				working.Wait()
			})
			kv, err := clients[0].GetKV(ctx, key)
			require.NoError(t, err)
			total := *increments / workers * workers
			require.Equal(t, strconv.Itoa(total), string(kv.Value))
			require.Equal(t, int64(total)+1, kv.Version)
			t.Logf("%s: %d increments by %d contending workers, %.2f round trips each", name, total, workers, float64(len(trips))/float64(total))
		})
	}
}

// What an uncontended change costs is exact: to read, and to commit.
func TestUncontendedEncryptedChangeTakesTwoRoundTrips(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithEncryption(testKey))
	ctx, key := t.Context(), prefix(t)
	require.NoError(t, c.Put(ctx, key, []byte("0")))
	for name, change := range map[string]func() error{
		"Update":   func() error { return c.Update(ctx, key, increment) },
		"Transact": func() error { return transactIncrement(ctx, c, key) },
		"CompareAndSwap": func() error {
			return done(c.CompareAndSwap(ctx, key, []byte("0"), []byte("0")))
		},
		"Txn": func() error {
			res, err := c.Txn().If(etcd.Value(key).Equal([]byte("0"))).Then(etcd.OpPut(key, []byte("0"))).Commit(ctx)
			return done(err == nil && res.Succeeded, err)
		},
	} {
		const times = 20
		trips := o.during(func() {
			for range times {
				require.NoError(t, c.Put(ctx, key, []byte("0")))
				require.NoError(t, change(), name)
			}
		})
		each := float64(len(trips)-times) / times // without the puts in between
		t.Logf("%s: %v round trips", name, each)
		require.Equal(t, 2.0, each, name) //nolint:testifylint // it is exact
	}
}
