package integration

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestMain(m *testing.M) {
	if serveIfAsked() || serveMemberIfAsked() || serveGRPCProxyIfAsked() || beFIPSClientIfAsked() || beEtcdctlIfAsked() || fightIfAsked() || workIfAsked() {
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// server starts a server for one test.
func server(t testing.TB, opts ...etcdtest.Option) *etcdtest.Server {
	t.Helper()
	return etcdtest.New(t, opts...)
}

// config returns the configuration of a client of srv.
func config(srv *etcdtest.Server) *etcd.Config {
	return maybeBatched(etcd.DefaultConfig().WithEndpoints(srv.Endpoints()...))
}

// maybeBatched switches batching on where ETCD_TEST_BATCHING asks for it, as make
// test-batched does: with one request under way, so that as many as can be travel together.
func maybeBatched(cfg *etcd.Config) *etcd.Config {
	if cfg != nil && os.Getenv("ETCD_TEST_BATCHING") != "" && !cfg.Batching {
		return cfg.WithBatching(etcd.WithBatchInFlight(1))
	}
	return cfg
}

// client connects to a server for one test, and has patience with it.
func client(t testing.TB, cfg *etcd.Config) *etcd.Client {
	t.Helper()
	own := *maybeBatched(cfg)
	if own.DialTimeout == etcd.DefaultDialTimeout {
		own.DialTimeout = patience
	}
	c, err := etcd.NewClient(&own)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// prefix is one for the keys of one test.
func prefix(t testing.TB) string { return "/" + t.Name() + "/" }

// within returns a context that ends after d, and with the test.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
