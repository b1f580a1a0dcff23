package etcdtest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"time"
)

const (
	// chunkSize is how much is read at once.
	chunkSize = 32 << 10
	// queueLen is how many chunks of one direction may be under way. Beyond that the
	// sender slows down, as with a full TCP window.
	queueLen = 64
)

// link is a client's connection and the matching one to the target. The mutex of the
// proxy guards the fields after done.
type link struct {
	client *net.TCPConn
	done   chan struct{} // closed when the link has ended

	server *net.TCPConn // nil until connected
	lossy  bool         // bytes were swallowed
}

// chunk is a piece of data under way, or the end of its direction.
type chunk struct {
	data []byte
	due  time.Time // when to forward it at the earliest
	end  error     // io.EOF if the sender closed in good order
}

// adopt runs a new link for the client's connection.
func (p *Proxy) adopt(client *net.TCPConn) {
	l := &link{client: client, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links[l] = struct{}{}
	if p.ctx.Err() != nil {
		p.abort(l)
		return
	}
	p.wg.Go(func() { p.run(l) })
}

func (p *Proxy) run(l *link) {
	var d net.Dialer
	conn, err := d.DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		p.drop(l)
		return
	}
	if !p.connected(l, conn.(*net.TCPConn)) {
		return
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.carry(l, ToServer, l.client, l.server)
	}()
	p.carry(l, ToClient, l.server, l.client)
	<-ended
	p.finish(l)
}

// connected adds the connection to the target, unless the link was cut in the meantime.
func (p *Proxy) connected(l *link, server *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.server = server
	if _, ok := p.links[l]; !ok {
		reset(server)
		return false
	}
	return true
}

// abort resets both ends of l, with the proxy's mutex held. It does nothing on a link
// that has ended.
func (p *Proxy) abort(l *link) {
	if !p.forget(l) {
		return
	}
	reset(l.client)
	if l.server != nil {
		reset(l.server)
	}
}

func (p *Proxy) drop(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.abort(l)
}

// finish closes l after both directions have ended. It doesn't reset, because the last
// bytes may still be on their way.
func (p *Proxy) finish(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.forget(l) {
		_ = l.client.Close()
		_ = l.server.Close()
	}
}

// forget removes l from the list, with the mutex held, and reports whether it was there.
func (p *Proxy) forget(l *link) bool {
	if _, ok := p.links[l]; !ok {
		return false
	}
	delete(p.links, l)
	close(l.done)
	return true
}

// reset closes c with an RST instead of a FIN.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails on a connection that the other end has reset
	_ = c.Close()
}

// carry moves one direction of l from src to dst until it ends.
func (p *Proxy) carry(l *link, d Direction, src, dst *net.TCPConn) {
	queue := make(chan chunk, queueLen)
	go p.receive(l, src, queue)
	p.send(l, d, dst, queue)
	// The rest is useless, but receive ends only when it is taken.
	for range queue {
	}
}

// receive reads src into queue, which it closes after the end.
func (p *Proxy) receive(l *link, src *net.TCPConn, queue chan<- chunk) {
	defer close(queue)
	buf := make([]byte, chunkSize)
	for {
		n, err := src.Read(buf)
		due := time.Now().Add(p.latency())
		select {
		case queue <- chunk{data: bytes.Clone(buf[:n]), due: due, end: err}:
		case <-l.done:
			return
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) latency() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.delay
	if p.jitter > 0 {
		d += time.Duration(p.random.Int64N(int64(p.jitter)))
	}
	return d
}

// send writes queue to dst, as far as the faults allow.
func (p *Proxy) send(l *link, d Direction, dst *net.TCPConn, queue <-chan chunk) {
	for c := range queue {
		if !waitUntil(c.due, l.done) {
			return
		}
		switch p.pass(l, d, c) {
		case swallowed:
			if c.end != nil {
				// Nobody must learn of the end: the link stays until it is cut.
				<-l.done
			}
		case forwarded:
			p.write(l, d, dst, c)
		}
	}
}

// write forwards c to dst.
func (p *Proxy) write(l *link, d Direction, dst *net.TCPConn, c chunk) {
	if len(c.data) > 0 {
		if _, err := dst.Write(c.data); err != nil {
			// dst is gone. That is news for the other direction, and travels by its
			// rules.
			if p.pass(l, opposite(d), chunk{}) == forwarded {
				p.drop(l)
			}
			<-l.done
			return
		}
	}
	switch {
	case errors.Is(c.end, io.EOF):
		_ = dst.CloseWrite() // fails if dst is gone; the other direction will notice
	case c.end != nil:
		p.drop(l)
	}
}

func opposite(d Direction) Direction { return ToClient - d }

// pass decides what happens to c, and corrupts it if that is due. It blocks while the
// direction is held, and returns held if the link was cut meanwhile.
func (p *Proxy) pass(l *link, d Direction, c chunk) flow {
	for {
		p.mu.Lock()
		f, changed := p.flows[d], p.changed
		switch f {
		case swallowed:
			l.lossy = true
		case forwarded:
			if d == ToClient {
				p.flip(c.data)
			}
		}
		p.mu.Unlock()
		if f != held {
			return f
		}
		select {
		case <-changed:
		case <-l.done:
			return held
		}
	}
}

// flip corrupts data as far as CorruptNext asks, with the mutex held.
func (p *Proxy) flip(data []byte) {
	n := min(p.corrupt, len(data))
	for i := range n {
		data[i] ^= 0xff
	}
	p.corrupt -= n
}

// waitUntil reports whether due came before done.
func waitUntil(due time.Time, done <-chan struct{}) bool {
	d := time.Until(due)
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-done:
		return false
	}
}
