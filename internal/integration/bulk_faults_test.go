package integration

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// loading is some workers that put batches until they are stopped.
type loading struct {
	config       *etcd.Config
	client       *etcd.Client
	acknowledged atomic.Int64
	stopped      atomic.Bool
	working      sync.WaitGroup

	mu      sync.Mutex
	batches []*batch
	failed  int
	longest time.Duration // that a call took
}

func startLoading(t *testing.T, cfg *etcd.Config) *loading {
	t.Helper()
	c := client(t, cfg)
	l := &loading{config: cfg, client: c}
	t.Cleanup(func() { l.stop() })
	for w := range batchWorkers {
		l.working.Go(func() {
			for n := 0; !l.stopped.Load(); n++ {
				b := &batch{prefix: fmt.Sprintf("%s%d/%d/", prefix(t), w, n)}
				began := time.Now()
				b.put(c)
				l.note(b, time.Since(began))
			}
		})
	}
	return l
}

func (l *loading) stop() {
	l.stopped.Store(true)
	l.working.Wait()
}

func (l *loading) note(b *batch, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches = append(l.batches, b)
	l.longest = max(l.longest, took)
	if b.err != nil {
		l.failed++
		return
	}
	l.acknowledged.Add(1)
}

func (l *loading) failures() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// more waits until further batches were acknowledged.
func (l *loading) more(t *testing.T) {
	t.Helper()
	want := l.acknowledged.Load() + 5*batchWorkers
	require.Eventually(t, func() bool { return l.acknowledged.Load() >= want }, busyTimeout, time.Millisecond)
}

// finish stops the workers, holds that every batch is stored as its outcome says,
// and puts those again that are not there.
func (l *loading) finish(t *testing.T) {
	t.Helper()
	l.stop()
	patient, resumed := client(t, l.config.WithTimeout(busyTimeout)), 0
	for _, b := range l.batches {
		if !b.requireWhole(t, l.client) {
			b.put(patient)
			require.NoError(t, b.err)
			require.True(t, b.requireWhole(t, l.client))
			resumed++
		}
	}
	t.Logf("%d of %d bulk puts failed, %d were not applied and put again; the longest took %v",
		l.failed, len(l.batches), resumed, l.longest.Round(time.Millisecond))
}

func TestBulkPutsContinueAfterAFollowerIsKilled(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	l := startLoading(t, cluster.config().WithTimeout(busyTimeout))
	l.more(t)
	cluster.after(cluster.leader(), 1).kill()
	l.more(t)
	// What was on its way by the follower is lost, and nothing else.
	assert.LessOrEqual(t, l.failures(), batchWorkers)
	l.finish(t)
}

func TestBulkPutsResumeAfterTheLeaderIsKilled(t *testing.T) {
	t.Parallel()
	cluster := newCluster(t)
	l := startLoading(t, cluster.config().WithTimeout(2*time.Second))
	// Once is nearly always enough to meet a bulk put on its way.
	for n := 0; n < 5 && l.failures() == 0; n++ {
		l.more(t)
		cluster.leader().kill()
		cluster.leader()
		l.more(t)
		cluster.heal()
		cluster.waitReady()
	}
	require.Positive(t, l.failures())
	l.finish(t)
}
