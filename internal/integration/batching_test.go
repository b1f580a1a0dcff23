package integration

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// Servers before 3.5.22 and 3.6 don't check what is in a nested transaction.
func TestRequestsThatMeetKeepToTheirRights(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithAuth("root"),
		etcdtest.WithUser("writer", "pass", etcdtest.Permission{Prefix: "/mine/", Read: true, Write: true}, etcdtest.Permission{Prefix: "/write/", Write: true}))
	c := client(t, config(srv).WithAuth("writer", "pass").WithBatching(etcd.WithBatchInFlight(1)))
	root := client(t, config(srv).WithAuth("root", "root"))
	ctx := t.Context()
	for i := range 32 {
		require.NoError(t, root.Put(ctx, fmt.Sprint("/write/", i), []byte("secret")))
	}
	var callers sync.WaitGroup
	denied := func(err error) {
		assert.ErrorIs(t, err, etcd.ErrPermissionDenied)
		assert.False(t, etcd.MaybeApplied(err))
	}
	for i := range 32 {
		callers.Go(func() {
			assert.NoError(t, c.Put(ctx, fmt.Sprint("/mine/", i), nil))
			assert.NoError(t, second(c.Get(ctx, fmt.Sprint("/mine/", i))))
			assert.NoError(t, second(c.PutIfNotExists(ctx, fmt.Sprint("/mine/new/", i), nil)))
		})
		callers.Go(func() {
			denied(c.Put(ctx, fmt.Sprint("/theirs/", i), nil))
			denied(second(c.PutIfNotExists(ctx, fmt.Sprint("/theirs/", i), nil)))
			denied(second(c.Get(ctx, fmt.Sprint("/write/", i))))
			denied(second(c.BulkGet(ctx, []string{fmt.Sprint("/write/", i), "/mine/0"})))
			var r etcd.WriteResult
			denied(c.Put(ctx, fmt.Sprint("/write/", i), nil, etcd.WithPrevKV(), etcd.WithResult(&r)))
			assert.Nil(t, r.PrevKV)
		})
	}
	callers.Wait()
	n, err := root.Count(ctx, "/theirs/")
	require.NoError(t, err)
	require.Zero(t, n)
}

// Each caller reads back what it has written, and nobody else's.
func TestCallersWhoMeetReadTheirOwnWrites(t *testing.T) {
	t.Parallel()
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			sizes := make(chan int, 1)
			observe := hook{after: func(_ etcd.RequestInfo, res etcd.ResultInfo) {
				if res.Batch > 1 {
					select {
					case sizes <- res.Batch:
					default:
					}
				}
			}}
			c := client(t, m.set(config(server(t))).WithBatching().WithHooks(observe).WithTimeout(busyTimeout))
			var callers sync.WaitGroup
			for i := range 64 {
				callers.Go(func() {
					key := fmt.Sprint(prefix(t), i)
					for n := range 20 {
						want := fmt.Sprint(i, n)
						assert.NoError(t, c.Put(t.Context(), key, []byte(want)))
						got, err := c.Get(t.Context(), key)
						assert.NoError(t, err)
						assert.Equal(t, want, string(got))
					}
				})
			}
			callers.Wait()
			require.NotEmpty(t, sizes, "some have travelled together")
		})
	}
}
