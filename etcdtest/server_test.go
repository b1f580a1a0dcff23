package etcdtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/blueprint-go/etcd/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect returns a client of endpoint that ends with t.
func connect(t *testing.T, cfg clientv3.Config) *clientv3.Client {
	t.Helper()
	cfg.Logger = zap.NewNop()
	c, err := clientv3.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func clientOf(t *testing.T, s *etcdtest.Server) *clientv3.Client {
	t.Helper()
	return connect(t, clientv3.Config{Endpoints: s.Endpoints(), TLS: s.TLSConfig()})
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestServerServesClients(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t)
	c := clientOf(t, s)
	ctx := within(t, 10*time.Second)

	_, err := c.Put(ctx, "key", "value")
	require.NoError(t, err)
	got, err := c.Get(ctx, "key")
	require.NoError(t, err)
	require.Equal(t, "value", string(got.Kvs[0].Value))
}
