package integration

import (
	"io/fs"
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
	p, folder := prefix(t), filepath.Join(t.TempDir(), "later")
	commit(t, c, map[string]string{p + "name": "a"})
	path := filepath.Join(folder, "last")
	v := liveOf[service](t, c, p, live.WithLastGood(path))
	require.ErrorIs(t, v.Status().LastGood, fs.ErrNotExist)
	require.NoError(t, os.Mkdir(folder, 0o700))
	require.Eventually(t, func() bool { return v.Status().LastGood == nil }, patience, time.Millisecond)
	require.FileExists(t, path)
}
