package integration

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// patientServer is for requests about thousands of keys. A server gives each five seconds
// and two elections, and a busy machine may need them.
func patientServer() etcdtest.Option { return etcdtest.WithTick(100*time.Millisecond, 20*time.Second) }

// versions are those of all keys, as the server has them.
func versions(t *testing.T, c *etcd.Client) map[string]int64 {
	t.Helper()
	resp, err := c.Raw().Get(t.Context(), "", clientv3.WithPrefix())
	require.NoError(t, err)
	out := map[string]int64{}
	for _, kv := range resp.Kvs {
		out[string(kv.Key)] = kv.Version
	}
	return out
}

// batch is some keys that are put together. Each holds the number of the attempt.
type batch struct {
	prefix   string
	attempts int64
	err      error // of the last attempt
}

func (b *batch) put(c *etcd.Client) {
	b.attempts++
	kvs := map[string][]byte{}
	for i := range batchSize {
		kvs[fmt.Sprint(b.prefix, i)] = []byte(strconv.FormatInt(b.attempts, 10))
	}
	b.err = c.BulkPut(context.Background(), kvs)
}

// requireWhole holds that a batch is stored as one or not at all, and as its error
// says, and reports whether it is.
func (b *batch) requireWhole(t *testing.T, c *etcd.Client) bool {
	t.Helper()
	kvs, err := c.GetPrefix(within(t, busyTimeout), b.prefix, 0)
	require.NoError(t, err)
	if len(kvs) == 0 {
		require.Error(t, b.err, "%s is lost", b.prefix)
		return false
	}
	require.True(t, b.err == nil || etcd.MaybeApplied(b.err), "%s is stored, in spite of: %v", b.prefix, b.err)
	require.Len(t, kvs, batchSize)
	for _, kv := range kvs {
		require.Equal(t, kvs[0].ModRevision, kv.ModRevision, "%s is not one", b.prefix)
		require.LessOrEqual(t, kv.Version, b.attempts, "%s is stored more often than it was put", b.prefix)
	}
	return true
}

// small are n key-values with short keys.
func small(n int) (kvs map[string][]byte, keys []string) {
	kvs = make(map[string][]byte, n)
	for i := range n {
		key := fmt.Sprintf("small/%05d", i)
		kvs[key], keys = fmt.Append(nil, "value of ", i), append(keys, key)
	}
	return kvs, keys
}

// numbered are n keys under p, with values of so many bytes.
func numbered(p string, n, size int) iter.Seq2[string, []byte] {
	value := make([]byte, size)
	return func(yield func(string, []byte) bool) {
		for i := range n {
			if !yield(fmt.Sprintf("%s%08d", p, i), value) {
				return
			}
		}
	}
}

// resume loads what a report leaves out.
func resume(ctx context.Context, c *etcd.Client, keys []string, report etcd.LoadReport, opts ...etcd.LoadOption) (etcd.LoadReport, error) {
	return c.BulkLoad(ctx, inTurn(keys[report.Applied:]), opts...)
}

// bulkErrorOf returns the error of a bulk call in chunks, and holds that its lists
// share out the keys and keep their order.
func bulkErrorOf(t *testing.T, err error, keys []string) *etcd.BulkError {
	t.Helper()
	failure, ok := errors.AsType[*etcd.BulkError](err)
	require.True(t, ok, "%v", err)
	all := slices.Concat(failure.Applied, failure.Unknown, failure.NotApplied)
	require.ElementsMatch(t, keys, all)
	for _, list := range [][]string{failure.Applied, failure.Unknown, failure.NotApplied} {
		require.True(t, slices.IsSorted(list))
	}
	require.ElementsMatch(t, failure.Remaining(), slices.Concat(failure.Unknown, failure.NotApplied))
	var e *etcd.Error
	require.ErrorAs(t, err, &e)
	return failure
}

const (
	batchSize    = 40
	batchWorkers = 4
)

// inTurn yields the keys with themselves as values.
func inTurn(keys []string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, key := range keys {
			if !yield(key, []byte(key)) {
				return
			}
		}
	}
}
