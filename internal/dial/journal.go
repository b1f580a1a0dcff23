package dial

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// journal remembers for each address why the last attempt to connect to it failed: gRPC
// only tells its callers that the deadline passed. Safe for concurrent use.
type journal struct {
	endpoints []Endpoint

	mu       sync.Mutex
	failed   map[target]failure
	underway map[target]underway
	change   chan struct{} // closed and replaced when failed changes
}

// Failure is why an endpoint can't be used.
type Failure struct {
	Endpoint string // as configured, without what may be a password
	Err      error
}

// Error implements error.
func (f Failure) Error() string { return f.Endpoint + ": " + f.Err.Error() }

// Unwrap returns f.Err.
func (f Failure) Unwrap() error { return f.Err }

type failure struct {
	err error
	at  time.Time
}

// underway is an attempt to connect that has not ended: what it waits for, and since
// when. A caller whose time is up first learns that.
type underway struct {
	since   time.Time
	waiting string
	ctx     context.Context // of the attempt; distinguishes it from the next one
}

// What an attempt to connect waits for, in turn.
const (
	waitingConnection = "connection"
	waitingHandshake  = "end of the TLS handshake"
	waitingSettings   = "HTTP/2 settings from the server"
)

func newJournal(endpoints []Endpoint) journal {
	return journal{
		endpoints: endpoints,
		failed:    make(map[target]failure),
		underway:  make(map[target]underway),
		change:    make(chan struct{}),
	}
}

// begin records that an attempt to connect to t has begun. It is forgotten when the
// attempt ends, and with it ctx.
func (j *journal) begin(ctx context.Context, t target) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.underway[t] = underway{since: time.Now(), waiting: waitingConnection, ctx: ctx}
	context.AfterFunc(ctx, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.underway[t].ctx == ctx {
			delete(j.underway, t)
		}
	})
}

// wait records what the attempt to connect to t waits for from now on.
func (j *journal) wait(t target, waiting string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if u, ok := j.underway[t]; ok {
		u.waiting = waiting
		j.underway[t] = u
	}
}

// pending returns a failure for each endpoint that is being connected to, unless an
// earlier attempt has failed: that error says more. j.mu must be held.
func (j *journal) pending() []Failure {
	var all []Failure
	for t, u := range j.underway {
		if _, failed := j.failed[t]; failed {
			continue
		}
		for _, name := range j.names(t) {
			all = append(all, Failure{Endpoint: name, Err: NoneFor(u.waiting, time.Since(u.since))})
		}
	}
	return all
}

// noteFailure records why an attempt failed. An attempt that was cancelled, because the
// client was closed or the endpoint dropped, says nothing about the endpoint.
func (j *journal) noteFailure(ctx context.Context, t target, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.underway, t)
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	j.failed[t] = failure{err, time.Now()}
	j.announce()
}

// succeed forgets why earlier attempts failed.
func (j *journal) succeed(t target) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.failed, t)
	delete(j.underway, t)
	j.announce()
}

// announce wakes those who wait for a change. j.mu must be held.
func (j *journal) announce() {
	close(j.change)
	j.change = make(chan struct{})
}

// Changed returns a channel that is closed when the failures change next. Take it before
// you look at them.
func (j *journal) Changed() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.change
}

// Failures returns a failure for each endpoint whose last attempt to connect failed,
// sorted by endpoint.
func (j *journal) Failures() []Failure {
	j.mu.Lock()
	defer j.mu.Unlock()
	return sorted(j.recent())
}

// Troubles returns the failures, and what attempts under way are waiting for, sorted by
// endpoint.
func (j *journal) Troubles() []Failure {
	j.mu.Lock()
	defer j.mu.Unlock()
	return sorted(append(j.recent(), j.pending()...))
}

// recent returns the failures that still count. j.mu must be held.
func (j *journal) recent() []Failure {
	var all []Failure
	for t, f := range j.failed {
		if time.Since(f.at) > failureLifetime {
			delete(j.failed, t)
			continue
		}
		for _, name := range j.names(t) {
			all = append(all, Failure{Endpoint: name, Err: f.err})
		}
	}
	return all
}

func sorted(all []Failure) []Failure {
	slices.SortFunc(all, func(a, b Failure) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	return all
}

// names returns the configured endpoints that lead to t, or else its address, which the
// cluster advertises.
func (j *journal) names(t target) []string {
	var names []string
	for _, e := range j.endpoints {
		if e.network == t.network && e.address == t.address {
			names = append(names, e.Name())
		}
	}
	if names == nil {
		names = []string{t.address}
	}
	return names
}

// failureLifetime is how long a failure counts. gRPC tries an unreachable endpoint again
// and again, at intervals below maxReconnectDelay + maxConnectTimeout. A much older
// failure belongs to an endpoint that is no longer in use, or to a time without requests.
const failureLifetime = 30 * time.Second
