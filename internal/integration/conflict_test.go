package integration

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// The time is up during the second try; the first one was overtaken by another client's
// change.
func TestDeadlineAfterOneConflictIsAConflict(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	other := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	for name, write := range map[string]func(ctx context.Context, c *etcd.Client, key string) error{
		"Update": func(ctx context.Context, c *etcd.Client, key string) error {
			return c.Update(ctx, key, func([]byte) ([]byte, error) { return []byte("mine"), nil })
		},
		"PutIfChanged": func(ctx context.Context, c *etcd.Client, key string) error {
			return second(c.PutIfChanged(ctx, key, []byte("mine")))
		},
		"MoveKey": func(ctx context.Context, c *etcd.Client, key string) error { return c.MoveKey(ctx, key, key+"-moved") },
		"CopyKey": func(ctx context.Context, c *etcd.Client, key string) error { return c.CopyKey(ctx, key, key+"-copy") },
		"Put with guard": func(ctx context.Context, c *etcd.Client, key string) error {
			return c.Put(ctx, key, []byte("mine"), etcd.WithGuard())
		},
		"Transact": func(ctx context.Context, c *etcd.Client, key string) error {
			return c.Transact(ctx, func(tx *etcd.Tx) error {
				_, err := tx.Get(key)
				tx.Put(key, []byte("mine"))
				return err
			})
		},
		"CompareAndSwap": func(ctx context.Context, c *etcd.Client, key string) error {
			return second(c.CompareAndSwap(ctx, key, []byte("theirs"), []byte("mine")))
		},
		"Txn": func(ctx context.Context, c *etcd.Client, key string) error {
			return second(c.Txn().If(etcd.Value(key).Equal([]byte("theirs"))).Then(etcd.OpPut(key, []byte("mine"))).Commit(ctx))
		},
	} {
		t.Run(name, func(t *testing.T) {
			key := prefix(t)
			require.NoError(t, other.Put(t.Context(), key, []byte("theirs")))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
			var tries atomic.Int64
			overtaken := make(chan struct{})
			o.around(func(req any) {
				if !conditional(req) {
					return
				}
				n := tries.Add(1)
				assert.NoError(t, other.Put(t.Context(), key, []byte("theirs")))
				if n == 2 {
					cancel()
					close(overtaken)
				}
			}, nil)
			err := write(ctx, c, key)
			<-overtaken
			o.around(nil, nil)
			require.ErrorIs(t, err, etcd.ErrConflict)
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, int64(2), tries.Load())
			value, err := other.Get(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, "theirs", string(value))
		})
	}
}

// Nobody was in the way: it is the time alone.
func TestDeadlineWithoutAConflictIsNone(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithTimeout(busyTimeout))
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Update(ctx, prefix(t), func([]byte) ([]byte, error) {
		cancel()
		return []byte("mine"), nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, etcd.ErrConflict)
}
