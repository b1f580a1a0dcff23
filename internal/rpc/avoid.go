package rpc

import (
	"context"
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

// Avoid has other requests pass over the connection on which the last attempt
// under ctx was made.
func Avoid(ctx context.Context) {
	r, ok := ctx.Value(routeKey{}).(*Route)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.taken); n > 0 && r.avoided != nil {
		r.avoided.add(r.taken[n-1])
	}
}
