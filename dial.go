package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
)

const (
	// After a heal the next attempt to connect comes within this time, so that
	// a client is back in less than two seconds.
	maxReconnectDelay = 1500 * time.Millisecond
	// An attempt is given up after this time, so that an endpoint that doesn't
	// answer at all isn't waited for longer than one that refuses. It is less than
	// the defaults of those who wait, for them to hear of it.
	maxConnectTimeout = 4 * time.Second
)

// failureLifetime is for how long a failure counts. gRPC tries an endpoint that it can't
// reach again and again, less than maxReconnectDelay + maxConnectTimeout apart. A failure
// that is much older is that of an endpoint no longer in use, or of a time without
// requests.
const failureLifetime = 30 * time.Second

// dialLog opens the connections of a client, and remembers for each address why
// the last attempt to connect failed: gRPC tells its callers no more than that
// the deadline passed. An attempt counts as failed until the server has sent its
// HTTP/2 settings, because a TLS 1.3 server refuses a client's certificate only
// after the handshake. Safe for concurrent use.
type dialLog struct {
	open      func(ctx context.Context, network, address string) (net.Conn, error)
	endpoints []endpoint
	tls       *tlsSource // nil for plaintext
	timeout   time.Duration
	addresses *addresses // nil with a Dialer of the user's
	// exposed is called with an endpoint that credentials go to in plaintext; nil
	// where there are none.
	exposed func(endpoint string)

	mu       sync.Mutex
	failed   map[target]failure
	underway map[target]underway
	warned   map[target]bool // of credentials in plaintext
	// Where each TCP connection between dial and handshake leads. gRPC sets
	// TCP_USER_TIMEOUT on a *net.TCPConn alone, so that one can't be wrapped.
	opened map[*net.TCPConn]target
	change chan struct{} // closed and replaced when failed changes
}

// target is where a connection leads, in the words of package net.
type target struct{ network, address string }

type failure struct {
	err error
	at  time.Time
}

// newDialLog takes a resolved Config.
func newDialLog(c *Config) *dialLog {
	l := &dialLog{
		open:      c.Dialer,
		endpoints: c.endpoints(),
		timeout:   min(c.DialTimeout/5*4, maxConnectTimeout),
		failed:    make(map[target]failure),
		underway:  make(map[target]underway),
		warned:    make(map[target]bool),
		opened:    make(map[*net.TCPConn]target),
		change:    make(chan struct{}),
	}
	if l.open == nil {
		l.addresses = newAddresses(c.resolver())
		l.open = l.addresses.open
	}
	if c.hasCredentials() {
		logger := c.Logger
		l.exposed = func(endpoint string) { warnOfPlaintext(logger, endpoint) }
	}
	if secure, _ := c.byTransport(); len(secure) > 0 {
		l.tls = newTLSSource(c)
	}
	return l
}

// dialOptions returns what makes gRPC connect through l. They must come after
// clientv3's own options, to replace them.
func (l *dialLog) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithContextDialer(l.dial),
		grpc.WithTransportCredentials(newHandshaker(l)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: grpcbackoff.Config{
				BaseDelay:  200 * time.Millisecond,
				Multiplier: 1.6,
				Jitter:     0.2,
				// Jitter comes on top of the maximum.
				MaxDelay: maxReconnectDelay * 10 / 12,
			},
			MinConnectTimeout: l.timeout,
		}),
	}
}

// dial opens a connection to an address in gRPC's form.
func (l *dialLog) dial(ctx context.Context, address string) (net.Conn, error) {
	t := parseTarget(address)
	l.begin(ctx, t)
	l.warnOfCredentials(t)
	conn, err := l.open(ctx, t.network, t.address)
	if err == nil && conn == nil {
		err = errors.New("the dialer returned neither a connection nor an error")
	}
	if err != nil {
		err = connectCause(err)
		l.fail(ctx, t, err)
		return nil, err
	}
	return l.tag(ctx, conn, t), nil
}

// warnOfCredentials warns once of a target that the cluster has advertised, and to
// which credentials go in plaintext. The configured ones were warned of before.
func (l *dialLog) warnOfCredentials(t target) {
	if l.exposed == nil || l.tls != nil {
		return
	}
	for _, e := range l.endpoints {
		if e.network == t.network && e.address == t.address {
			return
		}
	}
	if e, err := parseEndpoint(t.address); t.network == "unix" || err == nil && e.local() {
		return
	}
	l.mu.Lock()
	first := !l.warned[t]
	l.warned[t] = true
	l.mu.Unlock()
	if first {
		l.exposed(t.address)
	}
}

// parseTarget takes host:port, unix:path and unix://path.
func parseTarget(address string) target {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return target{"unix", strings.TrimPrefix(path, "//")}
	}
	return target{"tcp", address}
}

// taggedConn is a connection that knows where it leads.
type taggedConn struct {
	net.Conn
	target target
}

// tag ties conn to t until the attempt to connect, and with it ctx, has ended.
func (l *dialLog) tag(ctx context.Context, conn net.Conn, t target) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return &taggedConn{conn, t}
	}
	l.mu.Lock()
	l.opened[tcp] = t
	l.mu.Unlock()
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		delete(l.opened, tcp)
		l.mu.Unlock()
	})
	return conn
}

// untag returns what was tagged, for the handshake.
func (l *dialLog) untag(conn net.Conn) (net.Conn, target) {
	switch conn := conn.(type) {
	case *taggedConn:
		return conn.Conn, conn.target
	case *net.TCPConn:
		l.mu.Lock()
		defer l.mu.Unlock()
		return conn, l.opened[conn]
	}
	return conn, target{}
}

// fail notes why an attempt failed. One that was called off, as its client was
// closed or its endpoint dropped, says nothing about the endpoint.
func (l *dialLog) fail(ctx context.Context, t target, err error) {
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
func (l *dialLog) succeed(t target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.failed, t)
	delete(l.underway, t)
	l.announce()
}

// announce needs l.mu.
func (l *dialLog) announce() {
	close(l.change)
	l.change = make(chan struct{})
}

// changed returns a channel that is closed when the failures next change. Take
// it before looking at them.
func (l *dialLog) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.change
}

// failures returns one error for each endpoint to which the last attempt to
// connect failed, sorted by endpoint.
func (l *dialLog) failures() []*EndpointError {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sorted(l.recent())
}

// recent needs l.mu.
func (l *dialLog) recent() []*EndpointError {
	var all []*EndpointError
	for t, f := range l.failed {
		if time.Since(f.at) > failureLifetime {
			delete(l.failed, t)
			continue
		}
		for _, name := range l.names(t) {
			all = append(all, &EndpointError{Endpoint: name, Err: f.err})
		}
	}
	return all
}

func sorted(all []*EndpointError) []*EndpointError {
	slices.SortFunc(all, func(a, b *EndpointError) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	return all
}

// names returns the configured endpoints that lead to t, or else its address:
// one that the cluster advertises.
func (l *dialLog) names(t target) []string {
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

// err joins the failures, and what attempts that are under way wait for; nil means
// that there is neither.
func (l *dialLog) err() error {
	l.mu.Lock()
	all := sorted(append(l.recent(), l.pending()...))
	l.mu.Unlock()
	var errs []error
	for _, f := range all {
		errs = append(errs, f)
	}
	return oneLine(errs)
}

// withTimeout says what was waited for when the time for an attempt was up.
func withTimeout(waitedFor string, cause error) error {
	return fmt.Errorf("no %s within the time to connect: %w", waitedFor, cause)
}
