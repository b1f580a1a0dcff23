package etcd

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// journal remembers for each address why the last attempt to connect to it failed: gRPC
// tells its callers no more than that the deadline passed. Safe for concurrent use.
type journal struct {
	endpoints []endpoint

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

// underway is an attempt to connect that has not ended: what it waits for, and
// since when it has been under way. A caller whose time is up first is told so.
type underway struct {
	since   time.Time
	waiting string
	ctx     context.Context // of the attempt; tells it from the next one
}

// What an attempt to connect waits for, in turn.
const (
	waitingConnection = "connection"
	waitingHandshake  = "end of the TLS handshake"
	waitingSettings   = "HTTP/2 settings from the server"
)

func newJournal(endpoints []endpoint) journal {
	return journal{
		endpoints: endpoints,
		failed:    make(map[target]failure),
		underway:  make(map[target]underway),
		change:    make(chan struct{}),
	}
}

// begin notes that an attempt to connect to t has begun; it is forgotten with its
// end, which is also that of ctx.
func (l *journal) begin(ctx context.Context, t target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.underway[t] = underway{since: time.Now(), waiting: waitingConnection, ctx: ctx}
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.underway[t].ctx == ctx {
			delete(l.underway, t)
		}
	})
}

// wait notes what the attempt to connect to t waits for from now on.
func (l *journal) wait(t target, waiting string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u, ok := l.underway[t]; ok {
		u.waiting = waiting
		l.underway[t] = u
	}
}

// pending returns one for each endpoint that is being connected to, if no
// earlier attempt has failed: then its error says more. It needs l.mu.
func (l *journal) pending() []Failure {
	var all []Failure
	for t, u := range l.underway {
		if _, failed := l.failed[t]; failed {
			continue
		}
		for _, name := range l.names(t) {
			all = append(all, Failure{Endpoint: name, Err: noneFor(u.waiting, time.Since(u.since))})
		}
	}
	return all
}

// noteFailure notes why an attempt failed. One that was called off, as its client was
// closed or its endpoint dropped, says nothing about the endpoint.
func (l *journal) noteFailure(ctx context.Context, t target, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.underway, t)
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	l.failed[t] = failure{err, time.Now()}
	l.announce()
}

// succeed forgets why earlier attempts failed.
func (l *journal) succeed(t target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.failed, t)
	delete(l.underway, t)
	l.announce()
}

// announce needs l.mu.
func (l *journal) announce() {
	close(l.change)
	l.change = make(chan struct{})
}

// changed returns a channel that is closed when the failures next change. Take
// it before looking at them.
func (l *journal) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.change
}

// failures returns one for each endpoint to which the last attempt to connect failed,
// sorted by endpoint.
func (l *journal) failures() []Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sorted(l.recent())
}

// troubles returns the failures and what attempts that are under way wait for, sorted by
// endpoint.
func (l *journal) troubles() []Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sorted(append(l.recent(), l.pending()...))
}

// recent needs l.mu.
func (l *journal) recent() []Failure {
	var all []Failure
	for t, f := range l.failed {
		if time.Since(f.at) > failureLifetime {
			delete(l.failed, t)
			continue
		}
		for _, name := range l.names(t) {
			all = append(all, Failure{Endpoint: name, Err: f.err})
		}
	}
	return all
}

func sorted(all []Failure) []Failure {
	slices.SortFunc(all, func(a, b Failure) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	return all
}

// names returns the configured endpoints that lead to t, or else its address:
// one that the cluster advertises.
func (l *journal) names(t target) []string {
	var names []string
	for _, e := range l.endpoints {
		if e.network == t.network && e.address == t.address {
			names = append(names, e.name())
		}
	}
	if names == nil {
		names = []string{t.address}
	}
	return names
}

// failureLifetime is for how long a failure counts. gRPC tries an endpoint that it can't
// reach again and again, less than maxReconnectDelay + maxConnectTimeout apart. A failure
// that is much older is that of an endpoint no longer in use, or of a time without
// requests.
const failureLifetime = 30 * time.Second
