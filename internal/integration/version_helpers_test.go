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

// progressInOrder reports whether srv tells progress only after the events before
// it, as servers do since 3.4.31 and 3.5.13.
func progressInOrder(t testing.TB, srv *etcdtest.Server) bool {
	t.Helper()
	return sincePatch(t, srv, 31, 13)
}

// deletionsOutliveCompaction reports whether srv tells a deletion to a watch that begins
// at its revision when exactly that one was compacted, as servers do since 3.4.34 and
// 3.5.16 (etcd-io/etcd#18089).
func deletionsOutliveCompaction(t testing.TB, srv *etcdtest.Server) bool {
	t.Helper()
	return sincePatch(t, srv, 34, 16)
}

// sincePatch reports whether srv runs at least the given patches of etcd 3.4 or 3.5, or a
// later version.
func sincePatch(t testing.TB, srv *etcdtest.Server, of34, of35 int) bool {
	t.Helper()
	var a, b, patch int
	_, err := fmt.Sscanf(srv.Version(), "%d.%d.%d", &a, &b, &patch)
	require.NoError(t, err)
	switch {
	case since(t, srv, 3, 6):
		return true
	case since(t, srv, 3, 5):
		return patch >= of35
	}
	return patch >= of34
}

// hasRangeStream reports whether srv has range streams of its own.
func hasRangeStream(t testing.TB, srv *etcdtest.Server) bool {
	t.Helper()
	return since(t, srv, 3, 7)
}
