package etcdtest

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// ClosedPort returns an address on the loopback interface, "127.0.0.1:port", that refuses
// connections until t ends. On Unix nobody else gets the port meanwhile; a port that was
// merely closed might become that of another test's server.
func ClosedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("etcdtest: closed port: %v", err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	r, err := reserve(addr)
	if err != nil {
		t.Fatalf("etcdtest: closed port: %v", err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return addr
}

// reserve keeps a port that was closed just now, until the result is closed. A child process
// that another test starts meanwhile listens too, until it runs its own program.
func reserve(addr string) (io.Closer, error) {
	deadline := time.Now().Add(portTimeout)
	for {
		r, err := bind(addr)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return r, err
		}
		time.Sleep(portPause)
	}
}

// nothing is what bind returns if it can't reserve a port.
type nothing struct{}

func (nothing) Close() error { return nil }

var _ io.Closer = nothing{}
