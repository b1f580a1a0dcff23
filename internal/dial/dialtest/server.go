// Package dialtest provides the other side of a connection for tests: authorities,
// servers and a DNS zone, all on this machine. It may import grpc; only tests import it.
package dialtest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Listen returns a listener on this machine that is closed at the end of the test.
func Listen(t testing.TB) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// Serve calls answer for each connection to l, and waits for these calls at the end of
// the test. It closes the connection when answer returns.
func Serve(t testing.TB, l net.Listener, answer func(net.Conn)) string {
	var running sync.WaitGroup
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			running.Go(func() {
				defer func() {
					_ = conn.Close()
					mu.Lock()
					delete(open, conn)
					mu.Unlock()
				}()
				answer(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return l.Addr().String()
}

// ServerTLS returns the settings of an HTTP/2 server with a certificate.
func ServerTLS(pair tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}
}

// ServeGRPC runs a gRPC server on l; a nil cfg means plaintext.
func ServeGRPC(t testing.TB, l net.Listener, cfg *tls.Config) string {
	var options []grpc.ServerOption
	if cfg != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(cfg)))
	}
	s := grpc.NewServer(options...)
	var running sync.WaitGroup
	running.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		s.Stop()
		running.Wait()
	})
	return l.Addr().String()
}

// HandshakeThenClose does what etcd does with a client whose first bytes aren't those of
// a TLS handshake: it hangs up.
func HandshakeThenClose(cfg *tls.Config) func(net.Conn) {
	return func(conn net.Conn) { _ = tls.Server(conn, cfg).Handshake() }
}

// WaitThenClose does what etcd does without TLS when a TLS handshake arrives.
func WaitThenClose(conn net.Conn) { _, _ = conn.Read(make([]byte, 1024)) }

// Say answers the first bytes of a client with text.
func Say(text string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1024))
		_, _ = io.WriteString(conn, text)
		_, _ = io.Copy(io.Discard, conn)
	}
}

// TLSOr answers plaintext clients with text, as web servers do on a TLS port.
func TLSOr(cfg *tls.Config, text string) func(net.Conn) {
	return func(conn net.Conn) {
		r := bufio.NewReader(conn)
		first, err := r.Peek(1)
		if err != nil {
			return
		}
		if first[0] != 0x16 {
			Say(text)(&readConn{conn, r})
			return
		}
		_ = tls.Server(&readConn{conn, r}, cfg).Handshake()
	}
}

// readConn is a connection that reads from r.
type readConn struct {
	net.Conn
	r io.Reader
}

func (c *readConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// Recording is a listener that records what comes in, per connection.
type Recording struct {
	net.Listener
	mu    sync.Mutex
	heard []*bytes.Buffer
}

// Accept implements [net.Listener].
func (r *Recording) Accept() (net.Conn, error) {
	conn, err := r.Listener.Accept()
	if err != nil {
		return nil, err
	}
	b := new(bytes.Buffer)
	r.mu.Lock()
	r.heard = append(r.heard, b)
	r.mu.Unlock()
	return &readConn{conn, io.TeeReader(conn, &lockedWriter{&r.mu, b})}, nil
}

// All returns what each connection has sent.
func (r *Recording) All() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var texts []string
	for _, b := range r.heard {
		texts = append(texts, b.String())
	}
	return texts
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(b)
}

// Peers returns what a client that trusts a and speaks TLS may meet: servers that don't
// speak TLS, one of another authority, and one of a.
func Peers(t testing.TB, a *Authority) map[string]func(net.Conn) {
	return map[string]func(net.Conn){
		"server without TLS":          WaitThenClose,
		"server that hangs up":        func(net.Conn) {},
		"server that answers in text": Say("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"server that speaks first": func(conn net.Conn) {
			_, _ = conn.Write([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
			WaitThenClose(conn)
		},
		"unknown authority": HandshakeThenClose(ServerTLS(NewAuthority(t).Issue())),
		"good server":       HandshakeThenClose(ServerTLS(a.Issue())),
	}
}
