package mirror

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blueprint-go/etcd"
)

// reads are those of the store's revision, for all mirrors of a client: at most one is
// under way, and at most one waits for it. A read that began before a call proves nothing
// to it.
type reads struct {
	client *etcd.Client
	ctx    context.Context // ends with the last mirror
	cancel context.CancelFunc
	task   sync.WaitGroup
	// behind reports whether a mirror was behind the last read. Then progress is asked for
	// beside the next one: mostly its answer has come by the time the revision is known.
	behind atomic.Bool

	mu       sync.Mutex
	underWay *round
	waiting  *round
	ended    bool
}

// round is one read, for all calls that had begun before it.
type round struct {
	done     chan struct{}
	began    time.Time
	revision int64
	err      error
}

// shared holds the reads of each client that has mirrors.
var shared = struct {
	mu      sync.Mutex
	reads   map[*etcd.Client]*reads
	mirrors map[*reads]int
}{reads: map[*etcd.Client]*reads{}, mirrors: map[*reads]int{}}

// readsOf returns the reads of a client, for one more mirror, which releases them.
func readsOf(c *etcd.Client) *reads {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	r := shared.reads[c]
	if r == nil {
		r = &reads{client: c}
		r.ctx, r.cancel = context.WithCancel(context.Background())
		shared.reads[c] = r
	}
	shared.mirrors[r]++
	return r
}

// release takes back one readsOf. After the last one no goroutine is left.
func (r *reads) release() {
	shared.mu.Lock()
	shared.mirrors[r]--
	last := shared.mirrors[r] == 0
	if last {
		delete(shared.mirrors, r)
		delete(shared.reads, r.client)
	}
	shared.mu.Unlock()
	if !last {
		return
	}
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.cancel()
	r.task.Wait()
}

// join returns the next round to begin. It begins it if none is under way.
func (r *reads) join() *round {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := &round{done: make(chan struct{})}
	switch {
	case r.ended:
		next.err = errClosed
		close(next.done)
		return next
	case r.underWay == nil:
		r.underWay = next
		r.task.Go(r.run)
		return next
	case r.waiting == nil:
		r.waiting = next
	}
	return r.waiting
}

// run makes the rounds that calls wait for, one after the other.
func (r *reads) run() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for now := r.underWay; now != nil; now = r.underWay {
		r.mu.Unlock()
		r.read(now)
		close(now.done)
		r.mu.Lock()
		r.underWay, r.waiting = r.waiting, nil
	}
}

func (r *reads) read(now *round) {
	now.began = time.Now()
	if r.behind.Load() {
		if now.err = r.client.RequestProgress(r.ctx, 0); now.err != nil {
			return
		}
	}
	now.revision, now.err = r.client.Revision(r.ctx)
}
