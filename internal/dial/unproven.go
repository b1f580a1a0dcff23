package dial

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/blueprint-go/etcd/internal/errs"
)

// unprovenConn is a connection whose server has yet to show, by its first bytes, that it
// speaks HTTP/2. It reports the outcome to the journal, and from then on does nothing of
// its own. Like gRPC, it expects one reader.
type unprovenConn struct {
	net.Conn
	ctx    context.Context // of the attempt to connect; Read gets none
	dialer *Dialer
	target target
	name   string // of the endpoint
	// certificateAsked is set when the server asked for a client certificate.
	certificateAsked atomic.Bool

	decided atomic.Bool
	header  [frameHeaderSize]byte
	got     int
}

// RemoteAddr implements [net.Conn]. gRPC returns it as the peer of each call.
func (c *unprovenConn) RemoteAddr() net.Addr { return endpointAddr{c.Conn.RemoteAddr(), c.name} }

// Read implements [net.Conn]. For a server that did not prove itself, its error is the
// one that the journal gets.
func (c *unprovenConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.decided.Load() {
		return n, err
	}
	c.got += copy(c.header[c.got:], b[:n])
	switch begun := c.header[:c.got]; {
	case !beginsSettings(begun):
		err = c.strange(begun)
	case c.got == frameHeaderSize:
		c.decided.Store(true)
		c.dialer.addresses.trust(c.Conn.RemoteAddr())
		c.dialer.succeed(c.target)
		return n, err
	case err == nil:
		return n, nil
	default:
		err = c.cause(err)
	}
	c.decided.Store(true)
	c.dialer.addresses.distrust(c.Conn.RemoteAddr())
	c.dialer.noteFailure(c.ctx, c.target, err)
	return 0, err
}

// Write implements [net.Conn]. It keeps an error back until the server has proved itself:
// what broke the connection for writing also breaks it for reading, and only reading
// reveals the reason, in an alert that the server sent before. The time limit of the
// attempt closes the connection in any case.
func (c *unprovenConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil && !c.decided.Load() {
		return len(b), nil
	}
	return n, err
}

// strange says what kind of server begins with something other than settings.
func (c *unprovenConn) strange(begun []byte) error {
	err := fmt.Errorf("it answered with %q", begun)
	if c.dialer.tls == nil && c.dialer.speaksTLS(c.ctx, c.target) {
		return errs.WithKind(errs.ErrTLSRequired, err)
	}
	return errs.WithKind(errs.ErrNotEtcd, err)
}

// cause finds out why the connection broke before the server had begun. A server that
// requires TLS, such as etcd, hangs up on plaintext without a word.
func (c *unprovenConn) cause(err error) error {
	switch {
	case errors.Is(c.ctx.Err(), context.DeadlineExceeded):
		return withTimeout(waitingSettings, c.ctx.Err())
	case c.dialer.tls != nil:
		return tlsCause(err, c.certificateAsked.Load())
	case closedByPeer(err) && c.dialer.speaksTLS(c.ctx, c.target):
		return errs.WithKind(errs.ErrTLSRequired, err)
	}
	return err
}

// RFC 9113, sections 4.1 and 6.5: a frame begins with 24 bits of length, 8 of type, 8 of
// flags, and 31 for a stream. A server's first frame is SETTINGS, of type 4, on stream 0,
// not the acknowledgement (flag 1), and its length is a multiple of 6.
const (
	frameHeaderSize = 9
	frameSettings   = 4
	flagAck         = 1
)

// beginsSettings reports whether header, which may be cut anywhere, can be the beginning
// of a server's first frame.
func beginsSettings(header []byte) bool {
	if len(header) >= 4 {
		length := binary.BigEndian.Uint32(header) >> 8
		if length%6 != 0 || header[3] != frameSettings {
			return false
		}
	}
	if len(header) >= 5 && header[4]&flagAck != 0 {
		return false
	}
	for _, b := range header[min(5, len(header)):] {
		if b != 0 {
			return false
		}
	}
	return true
}
