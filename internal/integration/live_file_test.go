package integration

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/live"
)

func TestFileOfTheFirstConfigurationIsTriedAgain(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p, path := prefix(t), filepath.Join(t.TempDir(), "last")
	require.NoError(t, os.MkdirAll(filepath.Join(path, "in its place"), 0o700))
	commit(t, c, map[string]string{p + "name": "a"})
	v := liveOf[service](t, c, p, live.WithLastGood(path))
	require.Error(t, v.Status().LastGood)
	require.NoError(t, os.RemoveAll(path))
	require.Eventually(t, func() bool { return v.Status().LastGood == nil }, patience, time.Millisecond)
	require.FileExists(t, path)
}
