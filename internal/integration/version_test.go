package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/etcdtest"
)

// since reports whether srv runs etcd major.minor or a later version. The tests
// run on other versions by etcdtest's environment variable; where these differ,
// a test holds what each of them does.
func since(t testing.TB, srv *etcdtest.Server, major, minor int) bool {
	t.Helper()
	var a, b int
	_, err := fmt.Sscanf(srv.Version(), "%d.%d.", &a, &b)
	require.NoError(t, err)
	return a > major || a == major && b >= minor
}

// hasRangeStream reports whether srv has range streams of its own.
func hasRangeStream(t testing.TB, srv *etcdtest.Server) bool {
	t.Helper()
	return since(t, srv, 3, 7)
}
