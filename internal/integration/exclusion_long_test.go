//go:build long

package integration

import (
	"flag"
	"testing"
	"time"
)

var exclusionFor = flag.Duration("exclusion.for", 30*time.Second, "how long processes fight over each thing, at least")

func TestLongFightOverALock(t *testing.T) {
	t.Parallel()
	requireExclusion(t, "lock", exclusive, *exclusionFor)
}

func TestLongFightOverAnElection(t *testing.T) {
	t.Parallel()
	requireExclusion(t, "election", exclusive, *exclusionFor)
}

func TestLongFightOverAnElectionWithBothKeys(t *testing.T) {
	t.Parallel()
	requireExclusion(t, "election, both keys", exclusive, *exclusionFor)
}

func TestLongFightOverARWLock(t *testing.T) {
	t.Parallel()
	requireExclusion(t, "read-write lock", oneWriter, *exclusionFor)
}

func TestLongFightOverASemaphore(t *testing.T) {
	t.Parallel()
	requireExclusion(t, "semaphore", someSeats, *exclusionFor)
}

// The same fights over what clientv3 has, whose figures they print.
func TestLongFightOverClientv3(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"concurrency.Mutex", "concurrency.Election"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r, began := newExclusionRun(t, kind, exclusive), time.Now()
			r.fight(*exclusionFor)
			r.report(time.Since(began))
		})
	}
}
