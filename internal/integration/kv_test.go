package integration

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestEmptyValueIsNotAMissingKey(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, key := t.Context(), prefix(t)+"key"
		_, err := c.Get(ctx, key)
		require.ErrorIs(t, err, etcd.ErrKeyNotFound)
		exists, err := c.Exists(ctx, key)
		require.NoError(t, err)
		require.False(t, exists)
		kv, err := c.GetKV(ctx, key)
		require.ErrorIs(t, err, etcd.ErrKeyNotFound)
		require.Zero(t, kv)

		for _, empty := range [][]byte{nil, {}} {
			require.NoError(t, c.Put(ctx, key, empty))
			value, err := c.Get(ctx, key)
			require.NoError(t, err)
			require.Equal(t, []byte{}, value)
			exists, err = c.Exists(ctx, key)
			require.NoError(t, err)
			require.True(t, exists)
		}
		deleted, err := c.Delete(ctx, key)
		require.NoError(t, err)
		require.Equal(t, int64(1), deleted)
		deleted, err = c.Delete(ctx, key)
		require.NoError(t, err)
		require.Zero(t, deleted)
	})
}

func TestErrorOfAMissingKeySaysWhichOne(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	_, err := c.Get(t.Context(), "missing")
	var e *etcd.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, etcd.Error{Op: "get", Key: "missing", Sent: true, Err: etcd.ErrKeyNotFound}, *e)
	require.EqualError(t, err, `etcd: get "missing": key not found`)
	require.False(t, etcd.MaybeApplied(err))
}

func TestKeyValueHoldsWhatTheServerKnows(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, key := t.Context(), prefix(t)+"key"
		lease, err := c.Grant(ctx, time.Minute)
		require.NoError(t, err)
		require.NoError(t, c.Put(ctx, key, []byte("1")))
		require.NoError(t, c.Put(ctx, key, []byte("2"), etcd.WithLease(lease)))

		var kv etcd.KeyValue
		require.Equal(t, []string{"Range"}, o.during(func() { kv, err = c.GetKV(ctx, key) }))
		require.NoError(t, err)
		require.Equal(t, etcd.KeyValue{
			Key: key, Value: []byte("2"), CreateRevision: kv.ModRevision - 1, ModRevision: kv.ModRevision, Version: 2, Lease: lease,
		}, kv)
		value, revision, err := c.GetWithRevision(ctx, key)
		require.NoError(t, err)
		require.Equal(t, "2", string(value))
		require.Equal(t, kv.ModRevision, revision)
	})
}

func TestReadOfARevision(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, key := t.Context(), prefix(t)+"key"
		require.NoError(t, c.Put(ctx, key, []byte("old")))
		_, first, err := c.GetWithRevision(ctx, key)
		require.NoError(t, err)
		require.NoError(t, c.Put(ctx, key, []byte("new")))

		value, err := c.Get(ctx, key, etcd.WithRevision(first), etcd.WithSerializable())
		require.NoError(t, err)
		require.Equal(t, "old", string(value))
		exists, err := c.Exists(ctx, key, etcd.WithRevision(first-1))
		require.NoError(t, err)
		require.False(t, exists)

		_, err = c.Raw().Compact(ctx, first+1)
		require.NoError(t, err)
		for revision, want := range map[int64]error{first: etcd.ErrCompacted, first + 100: etcd.ErrFutureRevision} {
			at := etcd.WithRevision(revision)
			_, err = c.Get(ctx, key, at)
			require.ErrorIs(t, err, want)
			_, err = c.Exists(ctx, key, at)
			require.ErrorIs(t, err, want)
			_, err = c.List(ctx, key, at)
			require.ErrorIs(t, err, want)
			_, err = c.ListWithValues(ctx, key, at)
			require.ErrorIs(t, err, want)
			_, err = c.Count(ctx, key, at)
			require.ErrorIs(t, err, want)
			_, err = c.GetRange(ctx, key, "", at)
			require.ErrorIs(t, err, want)
			res, err := c.Txn().Then(etcd.OpPut(key, []byte("lost")), etcd.OpGet(key, at)).Commit(ctx)
			require.ErrorIs(t, err, want)
			require.Nil(t, res)
			require.False(t, etcd.MaybeApplied(err))
		}
		value, err = c.Get(ctx, key)
		require.NoError(t, err)
		require.Equal(t, "new", string(value))
	})
}

func TestPutKeepsALeaseOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, key := t.Context(), prefix(t)
	lease, err := c.Lease(60)
	require.NoError(t, err)
	leaseOf := func() etcd.LeaseID {
		kv, err := c.GetKV(ctx, key)
		require.NoError(t, err)
		return kv.Lease
	}

	err = c.Put(ctx, key, nil, etcd.WithIgnoreLease())
	require.ErrorIs(t, err, etcd.ErrKeyNotFound)
	require.False(t, etcd.MaybeApplied(err))
	err = c.Put(ctx, key, nil, etcd.WithLease(lease+1))
	require.ErrorIs(t, err, etcd.ErrLeaseNotFound)
	require.False(t, etcd.MaybeApplied(err))
	err = c.Put(ctx, key, nil, etcd.WithLease(lease), etcd.WithIgnoreLease())
	require.ErrorIs(t, err, etcd.ErrInvalidArgument)
	require.False(t, etcd.MaybeApplied(err))

	require.NoError(t, c.Put(ctx, key, nil, etcd.WithLease(lease)))
	require.NoError(t, c.Put(ctx, key, nil, etcd.WithIgnoreLease()))
	require.Equal(t, lease, leaseOf())
	require.NoError(t, c.Put(ctx, key, nil))
	require.Zero(t, leaseOf())
}

func TestPutIfNotExistsLetsOneWriterWin(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, key := t.Context(), prefix(t)+"key"
		var (
			wg     sync.WaitGroup
			wins   atomic.Int64
			winner atomic.Value
		)
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			wg.Go(func() {
				won, err := c.PutIfNotExists(ctx, key, []byte(name))
				assert.NoError(t, err)
				if won {
					wins.Add(1)
					winner.Store(name)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int64(1), wins.Load())
		value, err := c.Get(ctx, key)
		require.NoError(t, err)
		require.Equal(t, winner.Load(), string(value))

		won, err := c.PutIfNotExists(ctx, key+"2", nil, etcd.WithLease(12345))
		require.ErrorIs(t, err, etcd.ErrLeaseNotFound)
		require.False(t, won)
	})
}

func TestOddKeysComeBackAsTheyWent(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx := t.Context()
		for _, key := range oddKeys {
			require.NoError(t, c.Put(ctx, key, []byte("value of "+key)))
		}
		for _, key := range oddKeys {
			kv, err := c.GetKV(ctx, key)
			require.NoError(t, err)
			require.Equal(t, key, kv.Key)
			require.Equal(t, "value of "+key, string(kv.Value))
		}
		keys, err := c.List(ctx, "")
		require.NoError(t, err)
		require.ElementsMatch(t, oddKeys, keys)
		values, err := c.BulkGet(ctx, oddKeys)
		require.NoError(t, err)
		require.Len(t, values, len(oddKeys))
		for _, key := range oddKeys {
			deleted, err := c.Delete(ctx, key)
			require.NoError(t, err)
			require.Equal(t, int64(1), deleted, "%q", key)
		}
	})
}
