//go:build long

package integration

import (
	"testing"
	"time"
)

// Each round begins with the death of all members, sees each fault once, and ends with a
// check of everything.
func TestLongMillionEventsAreToldThroughFaults(t *testing.T) {
	t.Parallel()
	r := newHistoryRun(t, newCluster(t), modes[0].set)
	r.historyReaders()
	began := time.Now()
	for round := 0; r.events < 1_000_000; round++ {
		r.round(round, 50_000)
		t.Logf("round %d: %d changes after %v", round, r.events, time.Since(began).Round(time.Second))
	}
	r.log(time.Since(began))
}
