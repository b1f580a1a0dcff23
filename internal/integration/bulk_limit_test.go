package integration

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestThousandsOfKeysTakeOneRequestAndRevision(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		n   int
		set func(*etcd.Config) *etcd.Config
	}{
		"4096 plain":     {4096, func(c *etcd.Config) *etcd.Config { return c }},
		"20000 plain":    {20_000, func(c *etcd.Config) *etcd.Config { return c }},
		"8000 encrypted": {8000, func(c *etcd.Config) *etcd.Config { return c.WithEncryption(testKey) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, o := observedServer(t, patientServer())
			c := client(t, tc.set(config(srv)).WithTimeout(busyTimeout))
			kvs, keys := small(tc.n)
			require.Equal(t, []string{"Txn"}, o.during(func() { assert.NoError(t, c.BulkPut(t.Context(), kvs)) }))
			resp, err := c.Raw().Get(t.Context(), "none")
			require.NoError(t, err)
			require.Equal(t, int64(2), resp.Header.Revision)
			require.Equal(t, []string{"Txn"}, o.during(func() {
				got, err := c.BulkGet(t.Context(), keys)
				assert.NoError(t, err)
				assert.Equal(t, kvs, got)
			}))
			require.Equal(t, []string{"Txn"}, o.during(func() {
				deleted, err := c.BulkDelete(t.Context(), keys)
				assert.NoError(t, err)
				assert.Equal(t, int64(tc.n), deleted)
			}))
		})
	}
}

func TestLowerServerLimitIsFoundAndRemembered(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t, etcdtest.WithMaxTxnOps(20))
	c := client(t, config(srv).WithTimeout(busyTimeout))
	kvs, keys := small(300)
	// 128, 64 and 32 are refused, 16 is accepted.
	require.Len(t, o.during(func() { assert.NoError(t, c.BulkPut(t.Context(), kvs)) }), 4)
	resp, err := c.Raw().Get(t.Context(), "none")
	require.NoError(t, err)
	require.Equal(t, int64(2), resp.Header.Revision)

	require.Len(t, o.during(func() { assert.NoError(t, c.BulkPut(t.Context(), kvs)) }), 1)
	require.Len(t, o.during(func() {
		got, err := c.BulkGet(t.Context(), keys)
		assert.NoError(t, err)
		assert.Equal(t, kvs, got)
	}), 1)
	require.Len(t, o.during(func() { assert.NoError(t, second(c.BulkDelete(t.Context(), keys))) }), 1)
}

// The server's limit decides, not the steps in which it is looked for.
func TestBulkIsNestedDownToTheLowestLimit(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t, etcdtest.WithMaxTxnOps(9))
	c := client(t, config(srv).WithTimeout(busyTimeout))
	for _, n := range []int{10, 26, 27} {
		kvs, _ := small(n)
		require.NoError(t, c.BulkPut(t.Context(), kvs), n)
	}
	before := revisionOf(t, c)
	kvs, _ := small(28)
	var err error
	requests := o.during(func() { err = c.BulkPut(t.Context(), kvs) })
	require.ErrorIs(t, err, etcd.ErrTooManyOps)
	require.False(t, etcd.MaybeApplied(err))
	require.Less(t, len(requests), 7)
	require.Equal(t, before, revisionOf(t, c))
}

func TestConfiguredLimitIsRetriedWhenFoundLimitFails(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	requests := func(n int, refused int64) int64 {
		s := &script{answer: rpctypes.ErrGRPCTooManyOps, refuse: true, times: refused}
		if refused == 0 {
			s.answer = nil
		}
		kvs, _ := small(n)
		require.NoError(t, c.BulkPut(faults.follow(t.Context(), s), kvs))
		return s.seen.Load()
	}
	for range 2 {
		require.Equal(t, int64(5), requests(9, 4), "128, 64, 32 and 16 are refused")
		require.Equal(t, int64(1), requests(9, 0))
		require.Equal(t, int64(1), requests(100, 0), "8 can't hold them")
	}
}
