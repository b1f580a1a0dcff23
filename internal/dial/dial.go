// Package dial opens connections, over TLS or not, and knows why one failed. From this
// module it may import errs and secret, and otherwise only gRPC.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
)

const (
	// After an outage the next attempt to connect comes within this time, so that a
	// client is back in less than two seconds.
	maxReconnectDelay = 1500 * time.Millisecond
	// An attempt is given up after this time, so that an endpoint that doesn't answer at
	// all delays no longer than needed. It is less than the default timeouts of callers,
	// so that they hear of it.
	maxConnectTimeout = 4 * time.Second
)

// Params say how connections are opened.
type Params struct {
	// Endpoints are the configured ones, for their names and their transport.
	Endpoints []Endpoint
	// Open replaces the opening of connections; nil means that of package net, with all
	// addresses that Resolver knows.
	Open     func(ctx context.Context, network, address string) (net.Conn, error)
	Resolver *net.Resolver
	// Timeout bounds an attempt, for the callers that wait for it.
	Timeout time.Duration
	// TLS is nil for plaintext.
	TLS *TLSParams
	// Exposed is called once for each advertised endpoint to which credentials go in
	// plaintext; nil if there are no credentials.
	Exposed func(endpoint string)
}

// Dialer opens the connections of a client. An attempt counts as failed until the server
// has sent its HTTP/2 settings, because a TLS 1.3 server refuses a client's certificate
// only after the handshake. Safe for concurrent use.
type Dialer struct {
	journal
	open      func(ctx context.Context, network, address string) (net.Conn, error)
	tls       *tlsSource // nil for plaintext
	timeout   time.Duration
	addresses *addresses // nil if Params.Open is set
	exposed   func(endpoint string)

	mu     sync.Mutex
	warned map[target]bool // of credentials in plaintext
	// opened holds where each TCP connection between dial and handshake leads. gRPC only
	// sets TCP_USER_TIMEOUT on a *net.TCPConn, so such a connection can't be wrapped.
	opened map[*net.TCPConn]target
}

// target is where a connection leads, in terms of package net.
type target struct{ network, address string }

// New returns a dialer that opens connections as p says. It reads the TLS files, to have
// something to fall back on.
func New(p Params) *Dialer {
	d := &Dialer{
		journal: newJournal(p.Endpoints),
		open:    p.Open,
		timeout: min(p.Timeout/5*4, maxConnectTimeout),
		exposed: p.Exposed,
		warned:  make(map[target]bool),
		opened:  make(map[*net.TCPConn]target),
	}
	if d.open == nil {
		d.addresses = newAddresses(p.Resolver)
		d.open = d.addresses.open
	}
	if p.TLS != nil {
		d.tls = newTLSSource(*p.TLS)
	}
	return d
}

// Options returns the options that make gRPC connect through d. They must come after
// clientv3's own options, to replace them.
func (d *Dialer) Options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithContextDialer(d.dial),
		grpc.WithTransportCredentials(newHandshaker(d)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: grpcbackoff.Config{
				BaseDelay:  200 * time.Millisecond,
				Multiplier: 1.6,
				Jitter:     0.2,
				// Jitter is added to the maximum.
				MaxDelay: maxReconnectDelay * 10 / 12,
			},
			MinConnectTimeout: d.timeout,
		}),
	}
}

// dial opens a connection to an address in gRPC's form.
func (d *Dialer) dial(ctx context.Context, address string) (net.Conn, error) {
	t := parseTarget(address)
	d.begin(ctx, t)
	d.warnOfCredentials(t)
	conn, err := d.open(ctx, t.network, t.address)
	if err == nil && conn == nil {
		err = errors.New("the dialer returned neither a connection nor an error")
	}
	if err != nil {
		err = connectCause(err)
		d.noteFailure(ctx, t, err)
		return nil, err
	}
	return d.tag(ctx, conn, t), nil
}

// warnOfCredentials warns once of a target that the cluster has advertised and to which
// credentials go in plaintext. Configured ones have been warned of before.
func (d *Dialer) warnOfCredentials(t target) {
	if d.exposed == nil || d.tls != nil {
		return
	}
	for _, e := range d.endpoints {
		if e.network == t.network && e.address == t.address {
			return
		}
	}
	if e, err := ParseEndpoint(t.address); t.network == "unix" || err == nil && e.IsLocal() {
		return
	}
	d.mu.Lock()
	first := !d.warned[t]
	d.warned[t] = true
	d.mu.Unlock()
	if first {
		d.exposed(t.address)
	}
}

// parseTarget parses host:port, unix:path and unix://path.
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
func (d *Dialer) tag(ctx context.Context, conn net.Conn, t target) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return &taggedConn{conn, t}
	}
	d.mu.Lock()
	d.opened[tcp] = t
	d.mu.Unlock()
	context.AfterFunc(ctx, func() {
		d.mu.Lock()
		delete(d.opened, tcp)
		d.mu.Unlock()
	})
	return conn
}

// untag returns what was tagged, for the handshake.
func (d *Dialer) untag(conn net.Conn) (net.Conn, target) {
	switch conn := conn.(type) {
	case *taggedConn:
		return conn.Conn, conn.target
	case *net.TCPConn:
		d.mu.Lock()
		defer d.mu.Unlock()
		return conn, d.opened[conn]
	}
	return conn, target{}
}

// withTimeout says what was awaited when the time for an attempt was up.
func withTimeout(waitedFor string, cause error) error {
	return fmt.Errorf("no %s within the time to connect: %w", waitedFor, cause)
}
