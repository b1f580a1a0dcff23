package integration

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

const (
	loadKeys    = 10000
	chunkOfLoad = 100
	// killTries is how often a leader is killed at the most until a load notices.
	// Once is nearly always enough.
	killTries = 5
)

func loadKey(p string, i int) string { return fmt.Sprintf("%s%06d", p, i) }

// loadFrom yields the key-values of a load from number i on.
func loadFrom(p string, i int64) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for n := int(i); n < loadKeys; n++ {
			if !yield(loadKey(p, n), []byte(strconv.Itoa(n))) {
				return
			}
		}
	}
}

// killLeaderAmid kills the leader in the midst of a call: when keys with the prefix
// begin to appear. It returns the error of the call, with the cluster whole again.
func killLeaderAmid(t *testing.T, cluster *cluster, c *etcd.Client, p string, call func(ctx context.Context) error) error {
	t.Helper()
	leader := cluster.leader()
	var killing sync.WaitGroup
	killing.Go(func() {
		assert.Eventually(t, func() bool {
			n, err := c.Count(context.Background(), p)
			return err == nil && n > 0
		}, busyTimeout, time.Millisecond)
		leader.kill()
	})
	err := call(t.Context())
	killing.Wait()
	cluster.heal()
	cluster.waitReady()
	cluster.leader()
	return err
}

// scanned returns the keys with a prefix, by their names.
func scanned(t *testing.T, c *etcd.Client, p string) map[string]etcd.KeyValue {
	t.Helper()
	out := map[string]etcd.KeyValue{}
	for kv, err := range c.Scan(within(t, busyTimeout), p) {
		require.NoError(t, err)
		out[kv.Key] = kv
	}
	return out
}

func TestLoadResumesAfterTheLeaderIsKilled(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	c := client(t, cluster.config().WithTimeout(2*time.Second).WithEncryption(testKey))
	for n := range killTries {
		p := fmt.Sprintf("%s%d/", prefix(t), n)
		var report etcd.LoadReport
		err := killLeaderAmid(t, cluster, c, p, func(ctx context.Context) (err error) {
			report, err = c.BulkLoad(ctx, loadFrom(p, 0), etcd.WithChunkKeys(chunkOfLoad))
			return err
		})
		if err == nil {
			continue
		}
		t.Logf("%d applied: %v", report.Applied, err)
		found, first := scanned(t, c, p), report.Applied
		for i := range first {
			require.NotEmpty(t, found[loadKey(p, int(i))].Key, "number %d is not stored", i)
		}
		if !etcd.MaybeApplied(err) {
			require.Equal(t, report.Applied, int64(len(found)))
		}
		// Members that are back have much to catch up with: it may take several calls.
		for at := report.Applied; err != nil; at += report.Applied {
			require.True(t, etcd.IsRetryable(err), "%v", err)
			report, err = c.BulkLoad(within(t, busyTimeout), loadFrom(p, at))
		}
		found = scanned(t, c, p)
		for key, value := range loadFrom(p, 0) {
			require.Equal(t, string(value), string(found[key].Value))
		}
		for i := range first {
			require.Equal(t, int64(1), found[loadKey(p, int(i))].Version, "stored again")
		}
		return
	}
	require.Fail(t, "no load has noticed that the leader was killed")
}

func TestChunkedPutAccountsForKeysAfterLeaderLoss(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	c := client(t, cluster.config().WithTimeout(2*time.Second))
	for n := range killTries {
		p := fmt.Sprintf("%s%d/", prefix(t), n)
		kvs := map[string][]byte{}
		for key, value := range loadFrom(p, 0) {
			kvs[key] = value
		}
		err := killLeaderAmid(t, cluster, c, p, func(ctx context.Context) error {
			return c.BulkPut(ctx, kvs, etcd.InChunks(etcd.WithChunkKeys(chunkOfLoad)))
		})
		if err == nil {
			continue
		}
		failure, ok := errors.AsType[*etcd.BulkError](err)
		require.True(t, ok, "%v", err)
		t.Log(failure)
		found := scanned(t, c, p)
		for _, key := range failure.Applied {
			require.NotEmpty(t, found[key].Key, "%s is not stored", key)
		}
		for _, key := range failure.NotApplied {
			require.Empty(t, found[key].Key, "%s is stored", key)
		}
		require.Equal(t, len(kvs), len(failure.Applied)+len(failure.Unknown)+len(failure.NotApplied))
		for remaining := failure; err != nil; {
			require.True(t, etcd.IsRetryable(err), "%v", err)
			rest := map[string][]byte{}
			for _, key := range remaining.Remaining() {
				rest[key] = kvs[key]
			}
			err = c.BulkPut(within(t, busyTimeout), rest, etcd.InChunks())
			if more, ok := errors.AsType[*etcd.BulkError](err); ok { // else nothing was sent
				remaining = more
			}
		}
		found = scanned(t, c, p)
		for key, value := range kvs {
			require.Equal(t, string(value), string(found[key].Value))
		}
		for _, key := range failure.Applied {
			require.Equal(t, int64(1), found[key].Version, "stored again")
		}
		return
	}
	require.Fail(t, "no bulk put has noticed that the leader was killed")
}
