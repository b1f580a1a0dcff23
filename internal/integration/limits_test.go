package integration

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestLargestValueComesBack(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithTimeout(busyTimeout))
	value := largeValue(t, largestValue)
	require.NoError(t, c.Put(t.Context(), "k", value))
	got, err := c.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, value, got)
	swapped, err := c.CompareAndSwapRevision(t.Context(), "k2", 0, value[:largestValue-100])
	require.NoError(t, err)
	require.True(t, swapped)
}

func TestValuePastTheLimitIsRefusedUnsent(t *testing.T) {
	t.Parallel()
	for _, size := range []int{tooLargeValue, 2<<20 + 1, 3 << 20} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
				ctx, value := t.Context(), largeValue(t, size)
				halves := map[string][]byte{"a": value[:size/2], "b": value[size/2:]}
				for name, call := range map[string]func() error{
					"Put":                    func() error { return c.Put(ctx, "k", value) },
					"PutIfNotExists":         func() error { return second(c.PutIfNotExists(ctx, "k", value)) },
					"PutWithLease":           func() error { return c.PutWithLease(ctx, "k", value, 1) },
					"PutWithTTL":             func() error { return second(c.PutWithTTL(ctx, "k", value, time.Minute)) },
					"BulkPut":                func() error { return c.BulkPut(ctx, halves) },
					"CompareAndSwap":         func() error { return second(c.CompareAndSwap(ctx, "k", nil, value)) },
					"CompareAndSwapRevision": func() error { return second(c.CompareAndSwapRevision(ctx, "k", 0, value)) },
					"Txn Then":               func() error { return second(c.Txn().Then(etcd.OpPut("k", value)).Commit(ctx)) },
					"Txn Else":               func() error { return second(c.Txn().Else(etcd.OpPut("k", value)).Commit(ctx)) },
					"Txn guarded": func() error {
						return second(c.Txn().If(etcd.Value("a").Equal(nil)).Else(etcd.OpPut("k", value)).Commit(ctx))
					},
				} {
					requireRefused(t, o, name, etcd.ErrTooLarge, call)
				}
				// Only f knows the value, so that the key has been read by then.
				requests := o.during(func() {
					err := c.Update(ctx, "k", func([]byte) ([]byte, error) { return value, nil })
					require.ErrorIs(t, err, etcd.ErrTooLarge)
					require.False(t, etcd.MaybeApplied(err))
				})
				require.Len(t, requests, 1)
				keys, err := c.List(ctx, "")
				require.NoError(t, err)
				require.Empty(t, keys)
			})
		})
	}
}

func TestLimitOfRequestsIsAMatterOfConfiguration(t *testing.T) {
	t.Parallel()
	const limit = 8 << 20
	srv := server(t, etcdtest.WithMaxRequestBytes(limit))
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			c := client(t, m.set(config(srv)).WithMaxRequestBytes(limit).WithTimeout(busyTimeout))
			value := largeValue(t, limit-1000)
			require.NoError(t, c.Put(t.Context(), m.name, value))
			got, err := c.Get(t.Context(), m.name)
			require.NoError(t, err)
			require.Equal(t, value, got)
			require.ErrorIs(t, c.Put(t.Context(), m.name, make([]byte, 0, limit)[:limit]), wantOf(m.name))
		})
	}
	small := client(t, config(srv).WithMaxRequestBytes(1000))
	require.NoError(t, small.Put(t.Context(), "small", make([]byte, 900)))
	require.ErrorIs(t, small.Put(t.Context(), "small", make([]byte, 1000)), etcd.ErrTooLarge)
	_, err := small.Delete(t.Context(), string(make([]byte, 1000)))
	require.ErrorIs(t, err, etcd.ErrTooLarge)
}

// wantOf is the error for zeros past the limit: they compress to almost nothing.
func wantOf(mode string) error {
	if mode == "compressed" || mode == "all" {
		return nil
	}
	return etcd.ErrTooLarge
}

func TestLimitOfKeysIsAMatterOfConfiguration(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	srv := server(t)
	c := client(t, config(srv).WithMaxKeyBytes(limit).WithTimeout(busyTimeout))
	key := string(make([]byte, limit))
	require.NoError(t, c.Put(t.Context(), key, []byte("value")))
	value, err := c.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, "value", string(value))
	require.ErrorIs(t, c.Put(t.Context(), key+"\x00", nil), etcd.ErrTooLarge)
	keys, err := client(t, config(srv).WithTimeout(busyTimeout)).List(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []string{key}, keys)
}
