package integration

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A batch is a transaction of nested ones, each of which meets its own result, or what
// another client has made of it between the two executions.
func TestReplayedReencryptionsAreReportedAsRewritten(t *testing.T) {
	t.Parallel()
	srv, proxy := replayingServer(t)
	plain := client(t, config(srv).WithTimeout(busyTimeout))
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	keys := []string{prefix(t) + "a", prefix(t) + "b", prefix(t) + "c"}
	for _, key := range keys {
		require.NoError(t, plain.Put(t.Context(), key, nil))
		require.NoError(t, plain.Put(t.Context(), key, []byte("value")))
	}
	reads := client(t, config(srv).WithEncryption(testKey).WithPlaintextReads(prefix(t)).WithTimeout(busyTimeout))
	change := func() { assert.NoError(t, plain.Put(t.Context(), keys[0], []byte("theirs"))) }
	proxy.between.Store(&change)
	proxy.through(t, func() error {
		report, err := reads.Reencrypt(t.Context(), prefix(t))
		assert.Equal(t, int64(len(keys)), report.Rewritten)
		assert.Zero(t, report.Conflicts)
		return err
	})
	for _, key := range keys[1:] {
		kv, err := c.GetKV(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, "value", string(kv.Value))
		require.Equal(t, int64(3), kv.Version, "written once")
	}
	value, err := reads.Get(t.Context(), keys[0])
	require.NoError(t, err)
	require.Equal(t, "theirs", string(value), "the later change stays")
}
