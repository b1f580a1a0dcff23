package etcd

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
)

// avoidTime is how long an endpoint that could not serve a request gets no other
// one, unless there is no choice: a learner, a member without a leader, a proxy
// that has nobody behind it. Each request would otherwise meet it again.
const avoidTime = 5 * time.Second

// avoidance remembers the connections of one client that can't serve requests at
// the moment. Safe for concurrent use.
type avoidance struct {
	some  atomic.Bool // until isn't empty; saves the lock
	mu    sync.Mutex
	until map[balancer.SubConn]time.Time
}

func newAvoidance() *avoidance {
	return &avoidance{until: make(map[balancer.SubConn]time.Time)}
}

func (a *avoidance) add(conn balancer.SubConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.prune()
	a.until[conn] = time.Now().Add(avoidTime)
	a.some.Store(true)
}

func (a *avoidance) has(conn balancer.SubConn) bool {
	if !a.some.Load() {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.prune()
	_, ok := a.until[conn]
	return ok
}

// prune needs a.mu.
func (a *avoidance) prune() {
	now := time.Now()
	for conn, end := range a.until {
		if !now.Before(end) {
			delete(a.until, conn)
		}
	}
	a.some.Store(len(a.until) > 0)
}

// avoid has other requests pass over the connection on which the last attempt
// under ctx was made.
func avoid(ctx context.Context) {
	r, ok := ctx.Value(routeKey{}).(*route)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.taken); n > 0 && r.avoided != nil {
		r.avoided.add(r.taken[n-1])
	}
}

// maxElsewhere bounds the attempts that wait for an endpoint to be connected to
// which could serve what others can't.
const maxElsewhere = 10

// elsewhere takes in that the endpoint of attempt n could not serve the request,
// and reports whether another one is worth an attempt: until each was asked as
// often as it takes, or can't be connected to.
func (t *trace) elsewhere(a verdict, n int) bool {
	if t.to != nil && !slices.Contains(t.trouble.asked, nameOf(t.to)) {
		t.trouble.asked = append(t.trouble.asked, nameOf(t.to))
	}
	count := t.conn.endpointCount()
	return n < a.rounds()*count || n < maxElsewhere && len(t.trouble.asked)+len(t.conn.dials.failures()) < count
}
