package etcdtest

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	// readyTimeout bounds the wait for a started member. Its election takes at most two
	// election timeouts on an idle machine.
	readyTimeout = 30 * time.Second

	// portTimeout bounds the attempts to listen. An outgoing connection of anyone on this
	// machine can take a port that was free a moment ago.
	portTimeout = 2 * time.Second
	portPause   = 10 * time.Millisecond
)

// member is one run of the server, from a start to the next stop.
type member interface {
	// stop ends the member at once and returns when it has ended.
	stop()
	// auth returns access to the member's users, past everything that might refuse
	// clients: interceptors, a certificate.
	auth() pb.AuthClient
}

// launch starts a member on addr and waits until it is ready. It returns the address,
// with a port 0 replaced by a free one: the port must be known before the start, because
// a member tells clients its own address. While the port is in use it tries again, for as
// long as patience allows.
func launch(run func(addr string) (member, error), addr string, patience time.Duration) (member, string, error) {
	deadline := time.Now().Add(patience)
	for {
		settled, err := settlePort(addr)
		if err != nil {
			return nil, "", err
		}
		m, err := run(settled)
		switch {
		case err == nil:
			return m, settled, nil
		case !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline):
			return nil, "", err
		}
		time.Sleep(portPause)
	}
}

func anyPort(addr string) bool { return strings.HasSuffix(addr, ":0") }

func settlePort(addr string) (string, error) {
	if !anyPort(addr) {
		return addr, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
