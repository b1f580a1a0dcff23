package integration

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/live"
)

// service is the configuration of a service, as tests use it.
type service struct {
	Name   string
	Server struct {
		Host string
		Port uint16
	}
	Limits map[string]int
}

// liveOf opens a configuration for one test.
func liveOf[T any](t testing.TB, c *etcd.Client, prefix string, opts ...live.Option) *live.Value[T] {
	t.Helper()
	v, err := live.Open[T](within(t, patience), c, prefix, opts...)
	require.NoError(t, err)
	t.Cleanup(v.Close)
	return v
}

// stepsOf collects the changes of a configuration until a test wants no more of them.
func stepsOf[T any](ctx context.Context, v *live.Value[T]) <-chan live.Change[T] {
	out, changes := make(chan live.Change[T]), v.Changes(ctx)
	go func() {
		defer close(out)
		for c := range changes {
			select {
			case out <- c:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

// refusedAt waits until the newest configuration is refused, and returns why.
func refusedAt[T any](t testing.TB, v *live.Value[T], revision int64) *live.RejectedError {
	t.Helper()
	var r *live.RejectedError
	require.Eventually(t, func() bool {
		var ok bool
		r, ok = v.Err().(*live.RejectedError)
		return ok && r.Revision >= revision
	}, patience, time.Millisecond)
	require.Equal(t, revision, r.Revision)
	return r
}

// served waits until a configuration is served that a condition holds for.
func served[T any](t testing.TB, v *live.Value[T], holds func(*T) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return holds(v.Load()) }, patience, time.Millisecond)
}

// commit commits puts in one transaction, and returns its revision.
func commit(t testing.TB, c *etcd.Client, values map[string]string) int64 {
	t.Helper()
	var ops []etcd.Op
	for key, value := range values {
		ops = append(ops, etcd.OpPut(key, []byte(value)))
	}
	res, err := c.Txn().Then(ops...).Commit(within(t, patience))
	require.NoError(t, err)
	return res.Revision
}

// overBlockedFile opens a configuration whose file can't be written until what lies at its
// path is removed.
func overBlockedFile(t *testing.T, c *etcd.Client, p string) (v *live.Value[service], path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "last")
	require.NoError(t, os.MkdirAll(filepath.Join(path, "in its place"), 0o700))
	commit(t, c, map[string]string{p + "name": "a"})
	return liveOf[service](t, c, p, live.WithLastGood(path)), path
}
