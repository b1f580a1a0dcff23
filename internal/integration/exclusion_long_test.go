//go:build long

package integration

import (
	"flag"
	"testing"
	"time"
)

var exclusionFor = flag.Duration("exclusion.for", time.Minute, "how long processes fight over each thing, at least")

func TestLongFightOverALock(t *testing.T) {
	t.Parallel()
	requireExclusion(t, "lock", exclusive, *exclusionFor)
}

// The same fight over clientv3's mutex, whose figures it prints.
func TestLongFightOverTheMutexOfClientv3(t *testing.T) {
	t.Parallel()
	r, began := newExclusionRun(t, "concurrency.Mutex", exclusive), time.Now()
	r.fight(*exclusionFor)
	r.report(time.Since(began))
}
