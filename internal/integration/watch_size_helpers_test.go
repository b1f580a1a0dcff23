package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
)

// loaded stores n small values under prefix, in few revisions.
func loaded(t testing.TB, c *etcd.Client, prefix string, n int) {
	t.Helper()
	value := make([]byte, 200)
	_, err := c.BulkLoad(within(t, patience), func(yield func(string, []byte) bool) {
		for i := range n {
			if !yield(fmt.Sprintf("%s%07d", prefix, i), value) {
				return
			}
		}
	})
	require.NoError(t, err)
}

// count reads n events of a watch and returns how long that took.
func count(t testing.TB, w etcd.WatchChan, n int) time.Duration {
	t.Helper()
	began, last, seen := time.Now(), int64(0), 0
	for seen < n {
		r := next(t, w)
		require.NoError(t, r.Err())
		require.Greater(t, r.Events[0].Kv.ModRevision, last, "a torn revision")
		last, seen = r.Revision, seen+len(r.Events)
	}
	require.Equal(t, n, seen)
	return time.Since(began)
}

// countRaw is count for clientv3.
func countRaw(t testing.TB, w clientv3.WatchChan, n int) time.Duration {
	t.Helper()
	began := time.Now()
	for n > 0 {
		n -= len(next(t, w).Events)
	}
	return time.Since(began)
}
