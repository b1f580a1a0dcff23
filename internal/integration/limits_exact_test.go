package integration

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// padded are requests that grow by a byte with their padding.
var padded = map[string]func(ctx context.Context, c *etcd.Client, padding []byte) error{
	"put": func(ctx context.Context, c *etcd.Client, padding []byte) error { return c.Put(ctx, "k", padding) },
	"delete": func(ctx context.Context, c *etcd.Client, padding []byte) error {
		return second(c.Delete(ctx, string(padding)))
	},
	"swap": func(ctx context.Context, c *etcd.Client, padding []byte) error {
		return second(c.CompareAndSwapRevision(ctx, "k", 0, padding))
	},
	"transaction": func(ctx context.Context, c *etcd.Client, padding []byte) error {
		return second(c.Txn().If(etcd.Exists("k")).Then(etcd.OpPut("k", nil), etcd.OpDelete("l")).Else(etcd.OpPut("k", padding)).Commit(ctx))
	},
	"flat bulk": func(ctx context.Context, c *etcd.Client, padding []byte) error {
		return paddedBulk(ctx, c, padding, 100)
	},
	"nested bulk": func(ctx context.Context, c *etcd.Client, padding []byte) error {
		return paddedBulk(ctx, c, padding, 300)
	},
	"bulk delete": func(ctx context.Context, c *etcd.Client, padding []byte) error {
		return second(c.BulkDelete(ctx, []string{"k", string(padding)}))
	},
	"chunk": func(ctx context.Context, c *etcd.Client, padding []byte) error {
		return c.BulkPut(ctx, map[string][]byte{"k": padding}, etcd.InChunks())
	},
	"load": func(ctx context.Context, c *etcd.Client, padding []byte) error {
		return second(c.BulkLoad(ctx, func(yield func(string, []byte) bool) { yield("k", padding) }))
	},
}

func paddedBulk(ctx context.Context, c *etcd.Client, padding []byte, n int) error {
	kvs := map[string][]byte{"k": padding}
	for i := range n {
		kvs[fmt.Sprint("k", i)] = nil
	}
	return c.BulkPut(ctx, kvs)
}

// largestPadding returns the largest padding that is not refused, and holds that
// what is refused is not sent.
func largestPadding(t *testing.T, o *observer, limit int, call func(padding []byte) error) int {
	t.Helper()
	n := sort.Search(limit, func(n int) bool {
		var err error
		requests := o.during(func() { err = call(bytes.Repeat([]byte("p"), n+1)) })
		if err == nil {
			return false
		}
		require.Empty(t, requests, "%d bytes", n+1)
		require.ErrorIs(t, err, etcd.ErrTooLarge)
		require.ErrorContains(t, err, fmt.Sprintf("the limit is %d", limit))
		require.False(t, etcd.MaybeApplied(err))
		return true
	})
	require.Positive(t, n)
	require.Less(t, n, limit)
	return n
}

// What the server refuses for its size is refused before it is sent, and hardly
// anything else: the server takes no more than the last few bytes that its own ID of
// a request may be shorter than it can be.
func TestRequestOfExactlyTheLimitIsAccepted(t *testing.T) {
	t.Parallel()
	const limit = 40_000
	user := strings.Repeat("user", 40)
	servers := map[string]struct {
		options []etcdtest.Option
		set     func(*etcd.Config) *etcd.Config
		gap     int
	}{
		"plain":     {nil, func(c *etcd.Config) *etcd.Config { return c }, 2},
		"encrypted": {nil, func(c *etcd.Config) *etcd.Config { return c.WithEncryption(testKey).WithNamespace("space/") }, 2},
		// The revision of the rights takes four bytes after millions of changes.
		"user": {
			[]etcdtest.Option{etcdtest.WithAuth("root"), etcdtest.WithUser(user, "secret", etcdtest.Permission{AllKeys: true, Write: true, Read: true})},
			func(c *etcd.Config) *etcd.Config { return c.WithAuth(user, "secret") }, 5,
		},
	}
	for name, s := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, o := observedServer(t, append(s.options, etcdtest.WithMaxRequestBytes(limit))...)
			ours := func() *etcd.Config {
				return s.set(config(srv)).WithMaxRequestBytes(limit).WithMaxKeyBytes(limit).WithTimeout(busyTimeout)
			}
			c := client(t, ours())
			knowsNoLimit := client(t, ours().WithMaxRequestBytes(2*limit))
			for name, call := range padded {
				ctx := t.Context()
				n := largestPadding(t, o, limit, func(padding []byte) error { return call(ctx, c, padding) })
				gap := 0
				for call(ctx, knowsNoLimit, bytes.Repeat([]byte("q"), n+gap+1)) == nil {
					gap++
				}
				err := call(ctx, knowsNoLimit, bytes.Repeat([]byte("q"), n+gap+1))
				require.ErrorIs(t, err, etcd.ErrTooLarge, name)
				require.LessOrEqual(t, gap, s.gap, name)
				t.Logf("%s: %d bytes below the server's", name, gap)
			}
		})
	}
}

func TestDefaultLimitIsThatOfTheServer(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	value := largeValue(t, etcd.DefaultMaxRequestBytes)
	ctx, put := t.Context(), func(n int) error { return c.Put(t.Context(), "k", value[:n]) }
	n := largestPadding(t, o, len(value), func(padding []byte) error { return put(len(padding)) })
	require.Greater(t, n, len(value)-40)
	got, err := c.Get(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, value[:n], got)
}
