package etcdtest

import (
	"io"
	"net"
	"testing"
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

// nothing is what reserve returns if it can't reserve a port.
type nothing struct{}

func (nothing) Close() error { return nil }

var _ io.Closer = nothing{}
