package dial

import (
	"fmt"
	"net"
	"time"
)

// NoneFor returns an error that says what was awaited in vain, and how long.
func NoneFor(waiting string, d time.Duration) error {
	return fmt.Errorf("no %s for %v", waiting, d.Round(time.Millisecond))
}

// endpointAddr is the address of a server, with the name of the endpoint that led to it.
// gRPC returns it as the peer of a call.
type endpointAddr struct {
	addr net.Addr // nil if a dialer's connection has none
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

// NameOf returns the name of the endpoint that led to addr.
func NameOf(addr net.Addr) string {
	if a, ok := addr.(endpointAddr); ok && a.name != "" {
		return a.name
	}
	return addr.String()
}
