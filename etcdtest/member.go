package etcdtest

import (
	"errors"
	"fmt"
	"net"
	"net/url"
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
	portTimeout = 5 * time.Second
	portPause   = 10 * time.Millisecond
)

// member is one run of the server, from a start to the next stop.
type member struct {
	etcd *embed.Etcd
	rpc  *grpc.Server // nil until the member is ready
}

// config returns the configuration of a member that listens on addr.
func (s *Server) config(addr string) *embed.Config {
	client := url.URL{Scheme: "http", Host: addr}
	// Nobody dials the peer address of a member that is alone; a name for it is
	// all that the membership needs.
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}

	cfg := embed.NewConfig()
	cfg.Name = "etcdtest"
	cfg.Dir = s.dataDir
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(s.settings.logger)
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ListenClientUrls = []url.URL{client}
	cfg.AdvertiseClientUrls = []url.URL{client}
	cfg.TickMs = uint(s.settings.tick.Milliseconds())
	cfg.ElectionMs = uint(s.settings.election.Milliseconds())
	cfg.UnsafeNoFsync = !s.settings.fsync
	if n := s.settings.maxTxnOps; n != 0 {
		cfg.MaxTxnOps = n
	}
	if n := s.settings.maxRequestBytes; n != 0 {
		cfg.MaxRequestBytes = n
	}
	cfg.QuotaBackendBytes = s.settings.quota
	// A stop has to wait for the handlers, lest one outlives the server.
	cfg.GRPCAdditionalServerOptions = append([]grpc.ServerOption{grpc.WaitForHandlers(true)}, s.settings.grpcOptions...)
	return cfg
}

// launch starts a member on addr and waits until it is ready. It returns the
// address, in which a port 0 has been replaced by a free one: the port must be
// known before the start, because a member tells clients its own address.
func launch(config func(addr string) *embed.Config, addr string) (*member, string, error) {
	deadline := time.Now().Add(portTimeout)
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

func settlePort(addr string) (string, error) {
	if !strings.HasSuffix(addr, ":0") {
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

	e, err := embed.StartEtcd(cfg)
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
