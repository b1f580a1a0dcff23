//go:build long

package integration

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestLoadOfManyKeysNeedsLittleMemory(t *testing.T) {
	const n, most = 50_000, 32 << 20 // they take 50 MB
	c := client(t, etcd.DefaultConfig().WithEndpoints(serverProcess(t)...).WithTimeout(busyTimeout))
	runtime.GC()
	before, peak := heap(), int64(0)
	report, err := c.BulkLoad(t.Context(), numbered("/many/", n, 1000), etcd.WithLoadProgress(func(etcd.LoadReport) {
		peak = max(peak, heap()-before)
	}))
	require.NoError(t, err)
	require.Equal(t, int64(n), report.Applied)
	require.Less(t, peak, int64(most))
	t.Logf("heap growth %.1f MiB", float64(peak)/(1<<20))
}
