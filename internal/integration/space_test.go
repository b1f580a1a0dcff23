package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// exhaust writes until the server has no space left, and knows it: one that meets its
// quota only when it applies a write answers so, and takes smaller ones until its next
// look raises the alarm.
func exhaust(t *testing.T, c *etcd.Client) error {
	t.Helper()
	value := largeValue(t, 256<<10)
	for i := range 1000 {
		err := c.Put(t.Context(), fmt.Sprint("fill/", i), value)
		if err == nil {
			continue
		}
		alarms, listed := c.Raw().AlarmList(t.Context())
		require.NoError(t, listed)
		if len(alarms.Alarms) > 0 {
			return err
		}
	}
	require.Fail(t, "the quota has no end")
	return nil
}

// requireSpaceOrNot is for servers before 3.6 and nested puts: they look for puts on the
// outermost level, and refuse or apply the others as the size of the database happens to
// be at the moment. The error says no other thing either way.
func requireSpaceOrNot(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		require.ErrorIs(t, err, etcd.ErrNoSpace)
	}
}

func TestReadsAndDeletesWorkWithoutSpace(t *testing.T) {
	t.Parallel()
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			srv, o := observedServer(t, etcdtest.WithQuota(4<<20))
			c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
			ctx := t.Context()
			require.NoError(t, c.Put(ctx, "k", []byte("old")))
			require.ErrorIs(t, exhaust(t, c), etcd.ErrNoSpace)

			for name, write := range map[string]func() error{
				"Put":            func() error { return c.Put(ctx, "k", []byte("new")) },
				"PutIfNotExists": func() error { return second(c.PutIfNotExists(ctx, "new", nil)) },
				"BulkPut":        func() error { return c.BulkPut(ctx, manyValues(1)) },
				"BulkPut nested": func() error { return c.BulkPut(ctx, manyValues(200)) },
				"CompareAndSwap": func() error { return second(c.CompareAndSwap(ctx, "k", []byte("old"), []byte("new"))) },
				"Update":         func() error { return c.Update(ctx, "k", renew) },
				"MoveKey":        func() error { return c.MoveKey(ctx, "k", "new") },
				"Grant":          func() error { return second(c.Grant(ctx, time.Minute)) },
			} {
				var err error
				requests := o.during(func() { err = write() })
				if name == "BulkPut nested" && !since(t, srv, 3, 6) {
					requireSpaceOrNot(t, err)
					continue
				}
				require.ErrorIs(t, err, etcd.ErrNoSpace, name)
				// A grant that may have been applied is taken back meanwhile.
				requests = slices.DeleteFunc(requests, func(method string) bool { return method == "LeaseRevoke" })
				require.LessOrEqual(t, len(requests), 2, "%s is not tried again", name)
				require.False(t, etcd.IsRetryable(err), name)
			}
			// A comparison of a value beside another condition is sent nested.
			_, err := c.Txn().If(etcd.Value("k").Equal([]byte("old")), etcd.Exists("k")).Then(etcd.OpPut("unseen", nil)).Commit(ctx)
			if since(t, srv, 3, 6) {
				require.ErrorIs(t, err, etcd.ErrNoSpace)
			} else {
				requireSpaceOrNot(t, err)
			}

			value, err := c.Get(ctx, "k")
			require.NoError(t, err)
			require.Equal(t, "old", string(value))
			values, err := c.BulkGet(ctx, []string{"k", "new"})
			if since(t, srv, 3, 5) {
				require.NoError(t, err)
				require.Len(t, values, 1)
				res, err := c.Txn().If(etcd.Value("k").Equal([]byte("old"))).Then(etcd.OpGet("k"), etcd.OpDelete("k")).Commit(ctx)
				require.NoError(t, err)
				require.True(t, res.Succeeded)
			} else { // may refuse all transactions, those that only read too
				requireSpaceOrNot(t, err)
				require.False(t, etcd.MaybeApplied(err))
			}
			deleted, err := c.Delete(ctx, "fill/0")
			require.NoError(t, err)
			require.Equal(t, int64(1), deleted)
			removed, err := c.DeletePrefix(ctx, "fill/")
			require.NoError(t, err)
			require.Positive(t, removed)
		})
	}
}

func renew([]byte) ([]byte, error) { return []byte("new"), nil }
