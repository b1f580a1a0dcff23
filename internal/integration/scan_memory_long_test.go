//go:build long

package integration

import (
	"testing"
	"time"
)

// The keys take some 50 MiB; a scan needs but a part of it, also when the consumer
// is so slow that all buffers fill.
func TestLongScanOfASlowConsumerNeedsLittleMemory(t *testing.T) {
	requireScanNeedsLittleMemory(t, 200_000, 200, 32<<20, 0, 10*time.Millisecond)
}
