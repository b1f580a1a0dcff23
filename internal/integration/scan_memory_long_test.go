//go:build long

package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// The keys take some 50 MiB; a scan needs but a part of it, also when the consumer
// is so slow that all buffers fill.
func TestScanOfManyKeysNeedsLittleMemory(t *testing.T) {
	requireScanNeedsLittleMemory(t, 200_000, 200, 32<<20, 0, 10*time.Millisecond)
}

// requireScanNeedsLittleMemory holds that scans of n keys with values of some size
// let the heap grow by less than most, in each way, for consumers that work for so
// long on a thousand keys.
func requireScanNeedsLittleMemory(t *testing.T, n, size int, most int64, works ...time.Duration) {
	t.Helper()
	for _, variables := range [][]string{nil, {withoutStreams}} {
		c := client(t, etcd.DefaultConfig().WithEndpoints(serverProcess(t, variables...)...).WithTimeout(busyTimeout))
		load(t, c, "/many/", n, size)
		for name, opts := range map[string][]etcd.ScanOption{"forward": nil, "reverse": {etcd.WithReverse()}} {
			for _, work := range works {
				began := time.Now()
				keys, growth := scanWatchingTheHeap(t, c, "/many/", work, opts...)
				t.Logf("%s %v, work %v: %v, heap growth %.1f MiB", name, variables, work, time.Since(began), float64(growth)/(1<<20))
				require.Equal(t, n, keys)
				require.Less(t, growth, most)
			}
		}
	}
}
