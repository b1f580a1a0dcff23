package etcdtest

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
)

const (
	// readyTimeout bounds the wait for a started member, whose election takes
	// at most two election timeouts on an idle machine.
	readyTimeout = 30 * time.Second

	// portTimeout bounds the attempts to listen. A port that was free a moment
	// ago can be taken by an outgoing connection of anyone on this machine.
	portTimeout = 2 * time.Second
	portPause   = 10 * time.Millisecond
)

// member is one run of the server, from a start to the next stop.
type member struct {
	etcd *embed.Etcd
	rpc  *grpc.Server // nil until the member is ready
}

// launch starts a member on addr and waits until it is ready. It returns the
// address, in which a port 0 has been replaced by a free one: the port must be
// known before the start, because a member tells clients its own address. While
// the port is in use it tries again, for as long as patience says.
func launch(config func(addr string) *embed.Config, addr string, patience time.Duration) (*member, string, error) {
	deadline := time.Now().Add(patience)
	for {
		settled, err := settlePort(addr)
		if err != nil {
			return nil, "", fmt.Errorf("etcdtest: listen: %w", err)
		}
		m, err := run(config(settled))
		switch {
		case err == nil:
			return m, settled, nil
		case !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline):
			return nil, "", fmt.Errorf("etcdtest: start: %w", err)
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

func run(cfg *embed.Config) (*member, error) {
	serving := make(chan *grpc.Server, 1)
	cfg.ServiceRegister = func(rpc *grpc.Server) { serving <- rpc }

	e, err := startEtcd(cfg)
	if err != nil {
		return nil, err
	}
	m := &member{etcd: e}
	timeout := time.NewTimer(readyTimeout)
	defer timeout.Stop()
	select {
	case m.rpc = <-serving: // registered once the member is ready
		return m, nil
	case err = <-e.Err():
	case <-timeout.C:
		err = fmt.Errorf("not ready after %v", readyTimeout)
	}
	m.stop()
	return nil, err
}

// startEtcd makes an error of etcd's panic over a damaged data directory. What
// etcd had begun by then cannot be reached any more, and stays.
func startEtcd(cfg *embed.Config) (e *embed.Etcd, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, err = nil, fmt.Errorf("etcd gave up: %v", r)
		}
	}()
	return embed.StartEtcd(cfg)
}

func (m *member) stop() {
	if m.rpc == nil {
		// Close waits for the client listeners, and these for a member that is
		// ready or stopping.
		m.etcd.Server.Stop()
	} else {
		// A graceful stop would give open watches over 5 s to end, and they
		// don't end by themselves.
		m.rpc.Stop()
	}
	m.etcd.Close()
}
