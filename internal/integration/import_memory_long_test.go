//go:build long

package integration

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// The heap of the process is measured, so the servers are processes of their own, and
// the test is not parallel.
func TestExportStreamsIntoAnImportInBoundedMemory(t *testing.T) {
	requireCopyNeedsLittleMemory(t, 100_000, 64<<20)
}

// requireCopyNeedsLittleMemory holds that n keys with values of 1000 bytes are
// copied from one server to another while the heap grows by less than limit.
func requireCopyNeedsLittleMemory(t *testing.T, n int, limit int64) {
	t.Helper()
	const size = 1000
	from := client(t, etcd.DefaultConfig().WithEndpoints(serverProcess(t)...).WithTimeout(busyTimeout))
	to := client(t, etcd.DefaultConfig().WithEndpoints(serverProcess(t)...).WithTimeout(busyTimeout))
	value := []byte(strings.Repeat("v", size))
	_, err := from.BulkLoad(t.Context(), func(yield func(string, []byte) bool) {
		for i := range n {
			if !yield(fmt.Sprintf("/%06d", i), value) {
				return
			}
		}
	})
	require.NoError(t, err)

	in, out := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		_, err := from.Export(t.Context(), out, "/")
		out.CloseWithError(err)
		failed <- err
	}()
	runtime.GC()
	began, before, peak := time.Now(), heap(), int64(0)
	report, err := to.Import(t.Context(), in, etcd.WithImportProgress(func(etcd.ImportReport) { peak = max(peak, heap()-before) }))
	t.Logf("%d keys of %d bytes in %v, heap growth %.1f MiB", n, size, time.Since(began), float64(peak)/(1<<20))
	require.NoError(t, err)
	require.NoError(t, <-failed)
	require.EqualValues(t, n, report.Written)
	require.Less(t, peak, limit, "of %d bytes", n*size)
	count, err := to.Count(t.Context(), "/")
	require.NoError(t, err)
	require.EqualValues(t, n, count)
}
