//go:build unix

package etcdtest

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"syscall"
)

// bind binds a port on which nobody listens, until the result is closed: connections
// to it are refused, and nobody else gets it.
func bind(addr string) (io.Closer, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil || !at.Addr().Is4() {
		return nothing{}, err
	}
	// A server that another test starts just now must not inherit it.
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	socket := os.NewFile(uintptr(fd), "reserved port "+addr)
	// Connections of the port that still exist are no obstacle.
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
	}
	if err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("reserve %s: %w", addr, err)
	}
	return socket, nil
}
