package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestHooksSeeEachRequestOnceBeforeAndAfter(t *testing.T) {
	t.Parallel()
	j := &journal{}
	c := client(t, config(server(t)).WithHooks(j).WithNamespace("space/").WithEncryption(testKey))
	j.take()
	ctx := t.Context()
	lease, err := c.Lease(60)
	require.NoError(t, err)
	j.take()
	type want struct {
		op, key string
		write   bool
		err     error
	}
	for name, tc := range map[string]struct {
		call func() error
		want []want
	}{
		"put":      {func() error { return c.Put(ctx, "a", nil) }, []want{{"put", "a", true, nil}}},
		"get":      {func() error { _, err := c.Get(ctx, "a"); return err }, []want{{"get", "a", false, nil}}},
		"exists":   {func() error { _, err := c.Exists(ctx, "a"); return err }, []want{{"exists", "a", false, nil}}},
		"delete":   {func() error { _, err := c.Delete(ctx, "-"); return err }, []want{{"delete", "-", true, nil}}},
		"list":     {func() error { _, err := c.List(ctx, "a"); return err }, []want{{"list", "a", false, nil}}},
		"count":    {func() error { _, err := c.Count(ctx, "a"); return err }, []want{{"count", "a", false, nil}}},
		"bulk put": {func() error { return c.BulkPut(ctx, map[string][]byte{"a": nil}) }, []want{{"bulk put", "", true, nil}}},
		"in chunks": {
			func() error {
				return c.BulkPut(ctx, map[string][]byte{"a": nil, "b": nil}, etcd.InChunks(etcd.WithChunkKeys(1), etcd.WithParallelism(1)))
			},
			[]want{{"bulk put", "a", true, nil}, {"bulk put", "b", true, nil}},
		},
		"bulk load": {
			func() error { return second(c.BulkLoad(ctx, inTurn([]string{"a", "b"}))) },
			[]want{{"bulk load", "a", true, nil}},
		},
		"bulk get":    {func() error { _, err := c.BulkGet(ctx, []string{"a"}); return err }, []want{{"bulk get", "", false, nil}}},
		"bulk delete": {func() error { _, err := c.BulkDelete(ctx, []string{"-"}); return err }, []want{{"bulk delete", "", true, nil}}},
		"reading txn": {
			func() error { _, err := c.Txn().Then(etcd.OpGet("a")).Commit(ctx); return err },
			[]want{{"txn", "a", false, nil}},
		},
		"swap": {
			func() error { _, err := c.CompareAndSwap(ctx, "a", []byte("-"), nil); return err },
			[]want{{"compare and swap", "a", false, nil}, {"compare and swap", "a", true, nil}},
		},
		"revoke": {func() error { return c.RevokeLease(ctx, lease) }, []want{{"revoke", "", true, nil}}},
		"refused by the server": {
			func() error { return c.Put(ctx, "a", nil, etcd.WithLease(42)) },
			[]want{{"put", "a", true, etcd.ErrLeaseNotFound}},
		},
		"refused here": {func() error { return c.Put(ctx, "", nil) }, nil},
	} {
		err := tc.call()
		entries := j.take()
		require.Len(t, entries, 2*len(tc.want), name)
		for i, w := range tc.want {
			before, after := entries[2*i], entries[2*i+1]
			info := etcd.RequestInfo{Op: w.op, Key: w.key, Write: w.write}
			require.Equal(t, entry{when: "before", req: info}, before, name)
			require.Equal(t, info, after.req, name)
			require.Equal(t, 1, after.res.Attempts, name)
			require.Positive(t, after.res.Duration, name)
			require.ErrorIs(t, after.res.Err, w.err, name)
			if w.err != nil {
				require.Equal(t, err, after.res.Err, name)
			}
		}
	}
}

func TestHooksNestLikeBrackets(t *testing.T) {
	t.Parallel()
	all := &journal{}
	c := client(t, config(server(t)).WithHooks(&journal{name: "outer", shared: all}, &journal{name: "inner", shared: all}))
	all.take()
	require.NoError(t, c.Put(t.Context(), "key", nil))
	var order []string
	for _, e := range all.take() {
		order = append(order, e.when+" "+e.hook)
	}
	require.Equal(t, []string{"before outer", "before inner", "after inner", "after outer"}, order)
}

func TestContextOfAHookGoesWithTheRequest(t *testing.T) {
	t.Parallel()
	gone := errors.New("stopped by a hook")
	c := client(t, config(server(t)).WithLazyConnect().WithHooks(hook{before: func(ctx context.Context, _ etcd.RequestInfo) context.Context {
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(gone)
		return ctx
	}}))
	err := c.Put(within(t, time.Minute), "key", nil)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, gone)
	require.False(t, etcd.MaybeApplied(err))
}
