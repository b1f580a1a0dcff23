package integration

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// bulkSizes are those around the limits of one, two and three levels of a
// nested transaction.
var bulkSizes = []int{1, 128, 129, 4096, 5000}

func TestBulkIsOneRequestAndOneRevision(t *testing.T) {
	t.Parallel()
	for _, n := range bulkSizes {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			srv, o := observedServer(t, patientServer())
			c := client(t, config(srv).WithEncryption(testKey).WithNamespace("space/").WithTimeout(busyTimeout))
			ctx, p := t.Context(), prefix(t)
			kvs, keys := make(map[string][]byte, n), make([]string, n)
			for i := range n {
				keys[i] = fmt.Sprint(p, i)
				kvs[keys[i]] = []byte(keys[i][len(p):])
			}
			require.Equal(t, []string{"Txn"}, o.during(func() { assert.NoError(t, c.BulkPut(ctx, kvs)) }))
			stored, err := c.GetPrefix(ctx, p, 0)
			require.NoError(t, err)
			require.Len(t, stored, n)
			for _, kv := range stored {
				require.Equal(t, stored[0].ModRevision, kv.ModRevision)
			}

			for name, get := range map[string]func() (map[string][]byte, error){
				"BulkGet":     func() (map[string][]byte, error) { return c.BulkGet(ctx, append(keys, p+"missing", keys[0])) },
				"GetMultiple": func() (map[string][]byte, error) { return c.GetMultiple(ctx, append(keys, p+"missing", keys[0])) },
			} {
				var got map[string][]byte
				require.Equal(t, []string{"Txn"}, o.during(func() { got, err = get() }), name)
				require.NoError(t, err)
				require.Equal(t, kvs, got, name)
			}

			var deleted int64
			require.Equal(t, []string{"Txn"}, o.during(func() {
				deleted, err = c.BulkDelete(ctx, append(keys, p+"missing", keys[0]))
			}))
			require.NoError(t, err)
			require.Equal(t, int64(n), deleted)
			count, err := c.Count(ctx, p)
			require.NoError(t, err)
			require.Zero(t, count)
		})
	}
}

func TestBulkOfNothingSendsNothing(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	require.Empty(t, o.during(func() {
		assert.NoError(t, c.BulkPut(t.Context(), nil))
		assert.NoError(t, c.BulkPut(t.Context(), map[string][]byte{}))
		deleted, err := c.BulkDelete(t.Context(), nil)
		assert.NoError(t, err)
		assert.Zero(t, deleted)
		values, err := c.BulkGet(t.Context(), []string{})
		assert.NoError(t, err)
		assert.Equal(t, map[string][]byte{}, values)
	}))
}

func TestBulkWithOneBadKeyDoesNothing(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	ctx, p := t.Context(), prefix(t)
	long := string(make([]byte, etcd.DefaultMaxKeyBytes+1))
	for key, want := range map[string]error{"": etcd.ErrEmptyKey, long: etcd.ErrTooLarge} {
		require.Empty(t, o.during(func() {
			err := c.BulkPut(ctx, map[string][]byte{p + "good": nil, key: nil})
			assert.ErrorIs(t, err, want)
			_, err = c.BulkDelete(ctx, []string{p + "good", key})
			assert.ErrorIs(t, err, want)
			_, err = c.BulkGet(ctx, []string{p + "good", key})
			assert.ErrorIs(t, err, want)
		}))
	}
}

func TestBulkPutWithALease(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey).WithTimeout(busyTimeout))
	ctx, p := t.Context(), prefix(t)
	lease, err := c.Grant(ctx, time.Minute)
	require.NoError(t, err)
	for _, n := range []int{100, 300} {
		kvs := map[string][]byte{}
		for i := range n {
			kvs[fmt.Sprint(p, n, "/", i)] = nil
		}
		// One refusal is the refusal of all.
		err := c.BulkPut(ctx, kvs, etcd.WithLease(lease+1))
		require.ErrorIs(t, err, etcd.ErrLeaseNotFound)
		require.False(t, etcd.MaybeApplied(err))
		err = c.BulkPut(ctx, kvs, etcd.WithIgnoreLease())
		require.ErrorIs(t, err, etcd.ErrKeyNotFound)
		require.False(t, etcd.MaybeApplied(err))
		require.NoError(t, c.BulkPut(ctx, kvs, etcd.WithLease(lease)))
		require.NoError(t, c.BulkPut(ctx, kvs, etcd.WithIgnoreLease()))
	}
	status, err := c.TimeToLive(ctx, lease)
	require.NoError(t, err)
	require.Len(t, status.Keys, 400)
	require.NoError(t, c.RevokeLease(ctx, lease))
	count, err := c.Count(ctx, p)
	require.NoError(t, err)
	require.Zero(t, count)
}

func TestBulkGoesByTheLimitOfTheServer(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t, etcdtest.WithMaxTxnOps(6))
	c := client(t, config(srv).WithMaxTxnOps(6))
	for n, want := range map[int]error{1: nil, 6: nil, 9: nil, 10: etcd.ErrTooManyOps, 1000: etcd.ErrTooManyOps} {
		kvs := map[string][]byte{}
		for i := range n {
			kvs[fmt.Sprint(prefix(t), n, "/", i)] = nil
		}
		requests := 1
		if want != nil {
			requests = 0
		}
		require.Len(t, o.during(func() { assert.ErrorIs(t, c.BulkPut(t.Context(), kvs), want) }), requests)
	}
	// A key that is named twice counts once.
	same := make([]string, 1000)
	for i := range same {
		same[i] = prefix(t)
	}
	_, err := c.BulkGet(t.Context(), same)
	require.NoError(t, err)
	_, err = c.BulkDelete(t.Context(), same)
	require.NoError(t, err)
}
