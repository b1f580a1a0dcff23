package etcd

import (
	"fmt"
	"net"
	"time"
)

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
