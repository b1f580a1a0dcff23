package integration

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// longestKeys stores keys of the longest kind under p, and returns them.
func longestKeys(t *testing.T, c *etcd.Client, namespace, p string, limit int) []string {
	t.Helper()
	var keys []string
	for i := range 3 {
		head := fmt.Sprintf("%s%d", p, i)
		key := head + strings.Repeat("k", limit-len(namespace)-len(head))
		require.ErrorIs(t, c.Put(t.Context(), key+"\x00", nil), etcd.ErrTooLarge)
		require.NoError(t, c.Put(t.Context(), key, []byte(secret)))
		keys = append(keys, key)
	}
	return keys
}

func TestPositionBehindTheLongestKeyIsAccepted(t *testing.T) {
	t.Parallel()
	for _, namespace := range []string{"", "space/"} {
		const limit = 100
		c := client(t, config(server(t)).WithNamespace(namespace).WithMaxKeyBytes(limit).WithTimeout(busyTimeout))
		ctx := within(t, busyTimeout)
		keys := longestKeys(t, c, namespace, "p/", limit)
		next := keys[0] + "\x00"

		require.Equal(t, keys[1:], keysOf(scan(t, c.Scan(ctx, "p/", etcd.WithFromKey(next)))))
		require.Equal(t, keys[:1], keysOf(scan(t, c.Scan(ctx, "p/", etcd.WithFromKey(next), etcd.WithReverse()))))
		got, err := c.GetRange(ctx, next, keys[1]+"\x00")
		require.NoError(t, err)
		require.Equal(t, keys[1:2], keysOf(got))
		res, err := c.Txn().Then(etcd.OpGetRange(next, "")).Commit(ctx)
		require.NoError(t, err)
		require.Equal(t, keys[1:], keysOf(res.Results[0].KVs))
		require.NoError(t, second(c.Txn().Then(etcd.OpDeleteRange(next, keys[1]+"\x00")).Commit(ctx)))
		left, err := c.List(ctx, "")
		require.NoError(t, err)
		require.Equal(t, []string{keys[0], keys[2]}, left)
	}
}

// A pass that is stopped after each of its steps is resumed at whatever it reports.
func TestPassIsResumedBehindTheLongestKey(t *testing.T) {
	t.Parallel()
	const limit = 100
	r := newRotation(t)
	old := client(t, config(r.srv).WithKeyring(ringOf(t, r.a)).WithMaxKeyBytes(limit))
	now := r.reader(func(cfg *etcd.Config) { cfg.WithMaxKeyBytes(limit) })
	keys := longestKeys(t, old, "", "p/", limit)
	var nexts []string
	_, err := now.Reencrypt(t.Context(), "p/", etcd.WithKeysPerSecond(1000),
		etcd.WithReencryptProgress(func(r etcd.ReencryptReport) { nexts = append(nexts, r.Next) }))
	require.NoError(t, err)
	for _, key := range keys {
		nexts = append(nexts, key+"\x00")
	}
	for _, next := range nexts {
		require.NoError(t, second(now.Reencrypt(t.Context(), "p/", etcd.WithResumeAt(next))))
	}

	var file bytes.Buffer
	require.NoError(t, second(now.Export(t.Context(), &file, "p/", etcd.WithDecryptedValues())))
	nexts = nil
	_, err = now.Import(t.Context(), bytes.NewReader(file.Bytes()), etcd.WithChunkKeys(1),
		etcd.WithImportProgress(func(r etcd.ImportReport) { nexts = append(nexts, r.Next) }))
	require.NoError(t, err)
	require.Contains(t, nexts, keys[0]+"\x00")
	for _, next := range nexts {
		require.NoError(t, second(now.Import(t.Context(), bytes.NewReader(file.Bytes()), etcd.WithResumeAt(next))))
	}
}

// Somebody with a higher limit has stored a key that this client would not: it is
// listed, and so must be what comes after it.
func TestPositionBehindAForeignKeyIsAccepted(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithMaxKeyBytes(10))
	long := "p/" + strings.Repeat("k", 1000)
	require.NoError(t, client(t, config(srv)).BulkPut(t.Context(), map[string][]byte{long: nil, "p/z": nil}))
	first := scan(t, c.Scan(t.Context(), "p/", etcd.WithLimit(1)))
	require.Equal(t, []string{long}, keysOf(first))
	require.Equal(t, []string{"p/z"}, keysOf(scan(t, c.Scan(t.Context(), "p/", etcd.WithFromKey(long+"\x00")))))
}

func TestHugeChunksAllocateNothingAtOnce(t *testing.T) {
	c := client(t, config(server(t)))
	ctx, p := t.Context(), prefix(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := c.BulkLoad(ctx, func(yield func(string, []byte) bool) {
		_ = yield(p+"1", nil) && yield(p+"2", nil)
	}, etcd.WithChunkKeys(20_000_000))
	require.NoError(t, err)
	require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "3": nil}, etcd.InChunks(etcd.WithChunkKeys(20_000_000))))
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20), "of 853 MB that a map of that size takes; the server is in this process")
}
