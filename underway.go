package etcd

import (
	"context"
	"fmt"
	"net"
	"time"
)

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

// begin notes that an attempt to connect to t has begun; it is forgotten with its
// end, which is also that of ctx.
func (l *dialLog) begin(ctx context.Context, t target) {
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
func (l *dialLog) wait(t target, waiting string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if u, ok := l.underway[t]; ok {
		u.waiting = waiting
		l.underway[t] = u
	}
}

// pending returns one error for each endpoint that is being connected to, if no
// earlier attempt has failed: then its error says more. It needs l.mu.
func (l *dialLog) pending() []*EndpointError {
	var all []*EndpointError
	for t, u := range l.underway {
		if _, failed := l.failed[t]; failed {
			continue
		}
		for _, name := range l.names(t) {
			all = append(all, &EndpointError{Endpoint: name, Err: noneFor(u.waiting, time.Since(u.since))})
		}
	}
	return all
}

// noneFor says what was waited for in vain, and how long.
func noneFor(waiting string, d time.Duration) error {
	return fmt.Errorf("no %s for %v", waiting, d.Round(time.Millisecond))
}

// endpointAddr is the address of a server, with the name of the endpoint that led
// to it. gRPC hands it out as the peer of a call.
type endpointAddr struct {
	addr net.Addr // nil where a dialer's connection has none
	name string
}

// Network implements [net.Addr].
func (a endpointAddr) Network() string {
	if a.addr == nil {
		return ""
	}
	return a.addr.Network()
}

// String implements [net.Addr].
func (a endpointAddr) String() string {
	if a.addr == nil {
		return a.name
	}
	return a.addr.String()
}

// nameOf returns the name of the endpoint that led to addr.
func nameOf(addr net.Addr) string {
	if a, ok := addr.(endpointAddr); ok && a.name != "" {
		return a.name
	}
	return addr.String()
}

// at returns err as that of the endpoint which to leads to; a nil to is none.
func at(to net.Addr, err error) error {
	if to == nil || err == nil {
		return err
	}
	return &EndpointError{Endpoint: nameOf(to), Err: err}
}
