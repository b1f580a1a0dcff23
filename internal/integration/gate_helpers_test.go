package integration

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gate is the way from one member of a cluster to another: a socket that leads to
// another one while the gate is open. It ends with its test.
type gate struct {
	target  string
	serving sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{} // both ends of what passes
}

// newGate opens a gate from one path to another.
func newGate(t testing.TB, from, to string) *gate {
	t.Helper()
	l, err := net.Listen("unix", from)
	require.NoError(t, err)
	g := &gate{target: to, conns: map[net.Conn]struct{}{}}
	g.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the gate has ended
			}
			g.serving.Go(func() { g.lead(conn) })
		}
	})
	t.Cleanup(func() {
		assert.NoError(t, l.Close())
		g.shut()
		g.serving.Wait()
	})
	return g
}

// open lets new connections pass.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
}

// shut breaks all connections and lets no more pass.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for conn := range g.conns {
		_ = conn.Close()
	}
}

func (g *gate) lead(caller net.Conn) {
	called, err := net.Dial("unix", g.target)
	if err != nil {
		_ = caller.Close() // the member is dead
		return
	}
	defer g.forget(caller, called)
	if !g.remember(caller, called) {
		return
	}
	// A member that hangs up in one direction is done with both.
	g.serving.Go(func() {
		_, _ = io.Copy(called, caller)
		_ = called.Close()
	})
	_, _ = io.Copy(caller, called)
}

// remember reports whether the two may be joined.
func (g *gate) remember(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, conn := range conns {
		g.conns[conn] = struct{}{}
	}
	return !g.closed
}

func (g *gate) forget(conns ...net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
		delete(g.conns, conn)
	}
}
