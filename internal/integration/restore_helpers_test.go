package integration

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/etcdtest"
)

// copied returns a copy of a server's data, taken while it is stopped.
func copied(t *testing.T, srv *etcdtest.Server, dir string) string {
	t.Helper()
	backup := t.TempDir() + "/backup"
	srv.Stop()
	require.NoError(t, os.CopyFS(backup, os.DirFS(dir)))
	require.NoError(t, srv.Restart())
	return backup
}

// putBack restores a server's data from a copy.
func putBack(t *testing.T, srv *etcdtest.Server, dir, backup string) {
	t.Helper()
	srv.Stop()
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.CopyFS(dir, os.DirFS(backup)))
	require.NoError(t, srv.Restart())
}
