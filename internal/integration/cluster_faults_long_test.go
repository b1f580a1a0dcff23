//go:build long

package integration

import (
	"testing"
	"time"
)

// Every connection is given up meanwhile, and no new one comes about.
func TestCallsSucceedSoonAfterALongTotalOutage(t *testing.T) {
	t.Parallel()
	requireBackSoon(t, []endpointFault{
		{"blackholed", func(p *peer) { p.proxy.Blackhole() }, givenUp + 2*time.Second},
	})
}
