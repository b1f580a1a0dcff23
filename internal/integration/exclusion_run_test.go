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
