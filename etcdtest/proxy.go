package etcdtest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Direction is one of the two ways through a [Proxy].
type Direction int

// The two directions.
const (
	ToServer Direction = iota // requests
	ToClient                  // answers
)

// flow is what happens to the bytes of one direction.
type flow int

const (
	forwarded flow = iota
	swallowed
	held
)

// Proxy is a TCP proxy on a loopback port that breaks on demand, to put between a client
// and a [Server]. It knows nothing of what it carries, so it works for a server with TLS,
// too. Make one with [NewProxy]; the zero value is not usable. Several goroutines may
// call its methods at once. A fault takes effect before its method returns.
type Proxy struct {
	t      testing.TB
	target string
	scheme string
	addr   string

	ctx    context.Context // ends with the proxy
	cancel context.CancelFunc
	wg     sync.WaitGroup // accept loops and links

	switching sync.Mutex // serializes opening and closing the port

	mu      sync.Mutex
	port    *port     // nil while it is closed
	closed  io.Closer // keeps the port from others while it is closed
	links   map[*link]struct{}
	flows   [2]flow
	changed chan struct{} // closed when flows change
	delay   time.Duration
	jitter  time.Duration
	random  *rand.Rand
	corrupt int // bytes towards the client yet to be flipped
}

// port is an open port of a proxy.
type port struct {
	listener net.Listener
	ended    chan struct{} // closed when the last connection has been accepted
}

// NewProxy starts a proxy for target, "ip:port" or a [Server.Endpoint], which ends with
// the test t. The target need not exist yet: until then the proxy resets the connections
// of clients.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{
		t:       t,
		target:  target,
		links:   make(map[*link]struct{}),
		changed: make(chan struct{}),
		// A fixed seed: the same delays in every run.
		random: rand.New(rand.NewPCG(1, 2)),
	}
	if scheme, addr, ok := strings.Cut(target, "://"); ok {
		p.scheme, p.target = scheme+"://", addr
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("etcdtest: proxy: %v", err)
	}
	p.addr = l.Addr().String()
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.serve(l)
	t.Cleanup(p.close)
	return p
}

// Addr returns the address for clients, "127.0.0.1:port".
func (p *Proxy) Addr() string { return p.addr }

// Endpoint returns the address for clients with the scheme of the target, if it
// had one.
func (p *Proxy) Endpoint() string { return p.scheme + p.addr }

// Connections returns how many connections are open. It doesn't count those that were
// cut, or that both ends have closed.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Cut resets all connections, at both ends. New ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		p.abort(l)
	}
}

// Blackhole makes all bytes of the given directions disappear, or of both if none is
// given, and with them the news that an end has closed its connection. The connections
// stay open, and new ones are accepted. Blackhole(ToClient) loses the answers to requests
// that the server does execute.
func (p *Proxy) Blackhole(only ...Direction) { p.setFlows(swallowed, only) }

// Pause holds back all bytes of the given directions, or of both if none is given. The
// connections stay open, and new ones are accepted; [Proxy.Heal] delivers what was held,
// like a network that was down for a while.
func (p *Proxy) Pause(only ...Direction) { p.setFlows(held, only) }

// Refuse closes the port, so that new connections are refused. Existing ones live on; Cut
// after Refuse leaves none.
func (p *Proxy) Refuse() {
	p.switching.Lock()
	defer p.switching.Unlock()
	p.mu.Lock()
	open := p.port
	p.port = nil
	p.mu.Unlock()
	if open == nil {
		return
	}
	_ = open.listener.Close()
	<-open.ended
	if p.ctx.Err() == nil {
		p.reserve()
	}
}

// reserve keeps the closed port, which might otherwise become that of another test's
// server.
func (p *Proxy) reserve() {
	r, err := reserve(p.addr)
	if err != nil {
		p.t.Errorf("etcdtest: proxy: keeping the closed port: %v", err)
		return
	}
	p.closed = r
}

// release gives the port up again. The switching lock is held.
func (p *Proxy) release() {
	if p.closed != nil {
		_ = p.closed.Close()
		p.closed = nil
	}
}

// Delay holds every piece of data back for d, plus a random part of jitter, in each
// direction. Their order stays. Pieces that are already under way keep their delay.
func (p *Proxy) Delay(d, jitter time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.jitter = d, jitter
}

// CorruptNext flips all bits of the next n bytes from the server to a client.
func (p *Proxy) CorruptNext(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.corrupt = n
}

// Heal ends every fault: the port is open again, and bytes pass at once and unchanged.
// Connections that have lost bytes are reset, since the two ends can't make sense of the
// rest.
func (p *Proxy) Heal() {
	p.switching.Lock()
	defer p.switching.Unlock()
	p.mu.Lock()
	for l := range p.links {
		if l.lossy {
			p.abort(l)
		}
	}
	p.delay, p.jitter, p.corrupt = 0, 0, 0
	p.setFlowsLocked(forwarded, nil)
	done := p.port != nil || p.ctx.Err() != nil
	p.mu.Unlock()
	if done {
		return
	}
	l, err := listenAgain(p.addr)
	if err != nil {
		p.t.Errorf("etcdtest: proxy: opening the port again: %v", err)
		return
	}
	p.release()
	p.serve(l)
}

func (p *Proxy) setFlows(f flow, only []Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setFlowsLocked(f, only)
}

func (p *Proxy) setFlowsLocked(f flow, only []Direction) {
	if len(only) == 0 {
		only = []Direction{ToServer, ToClient}
	}
	for _, d := range only {
		p.flows[d] = f
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) close() {
	p.cancel()
	p.Refuse()
	p.switching.Lock()
	p.release()
	p.switching.Unlock()
	p.Cut()
	p.wg.Wait()
}

// serve accepts connections on l.
func (p *Proxy) serve(l net.Listener) {
	open := &port{listener: l, ended: make(chan struct{})}
	p.mu.Lock()
	p.port = open
	p.mu.Unlock()
	p.wg.Go(func() {
		defer close(open.ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the listener was closed
			}
			p.adopt(conn.(*net.TCPConn))
		}
	})
}

// listenAgain listens on a port that was given up a while ago. In between, an outgoing
// connection of anyone on this machine may have taken it.
func listenAgain(addr string) (net.Listener, error) {
	deadline := time.Now().Add(portTimeout)
	for {
		l, err := net.Listen("tcp", addr)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return l, err
		}
		time.Sleep(portPause)
	}
}
