package etcdtest

import (
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter"
	"google.golang.org/grpc"
)

// embedded is a member in this process.
type embedded struct {
	etcd *embed.Etcd
	rpc  *grpc.Server // nil until the member is ready
}

func runEmbedded(cfg *embed.Config) (member, error) {
	serving := make(chan *grpc.Server, 1)
	cfg.ServiceRegister = func(rpc *grpc.Server) { serving <- rpc }

	e, err := startEtcd(cfg)
	if err != nil {
		return nil, err
	}
	m := &embedded{etcd: e}
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

// startEtcd turns etcd's panic over a damaged data directory into an error. What etcd had
// started by then is out of reach, and stays.
func startEtcd(cfg *embed.Config) (e *embed.Etcd, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, err = nil, fmt.Errorf("etcd gave up: %v", r)
		}
	}()
	return embed.StartEtcd(cfg)
}

func (m *embedded) stop() {
	if m.rpc == nil {
		// Close waits for the client listeners, which wait until the member is ready or
		// stopping.
		m.etcd.Server.Stop()
	} else {
		// A graceful stop would give open watches over 5 s to end, and they don't end by
		// themselves.
		m.rpc.Stop()
	}
	m.etcd.Close()
}

func (m *embedded) auth() pb.AuthClient {
	return adapter.AuthServerToAuthClient(v3rpc.NewAuthServer(m.etcd.Server))
}
