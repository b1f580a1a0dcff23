package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// requireExclusion has processes fight and holds that neither two held at a time nor one wrote
// after its claim had ended.
func requireExclusion(t *testing.T, kind string, rule exclusionRule, d time.Duration) {
	t.Helper()
	r, began := newExclusionRun(t, kind, rule), time.Now()
	r.fight(d)
	overlaps, stale := r.report(time.Since(began))
	require.NotEmpty(t, r.tenures)
	require.NotEmpty(t, r.truth.writes)
	require.Empty(t, overlaps, "held by more than may")
	require.Empty(t, stale)
}

func TestProcessesNeverShareALockThroughFaults(t *testing.T) {
	t.Parallel()
	requireExclusion(t, "lock", exclusive, 0)
}

func TestProcessesNeverLeadTogetherThroughFaults(t *testing.T) {
	t.Parallel()
	requireExclusion(t, "election", exclusive, 0)
}

var (
	// oneWriter is the rule of a read-write lock.
	oneWriter = exclusionRule{size: exclusionWorkers, weight: map[string]int{"r": 1, "w": exclusionWorkers}}
	// someSeats is that of a semaphore.
	someSeats = exclusionRule{size: exclusionSeats, weight: map[string]int{"": 1}}
)

func TestWritersAreAloneThroughFaults(t *testing.T) {
	t.Parallel()
	requireExclusion(t, "read-write lock", oneWriter, 0)
}

func TestSemaphoreIsNeverExceededThroughFaults(t *testing.T) {
	t.Parallel()
	requireExclusion(t, "semaphore", someSeats, 0)
}
