package snippets

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect returns a client that is closed with the test.
func connect(t *testing.T, config *etcd.Config) *etcd.Client {
	t.Helper()
	client, err := etcd.NewClient(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// newClient returns a client of a server of its own.
func newClient(t *testing.T) *etcd.Client {
	t.Helper()
	return connect(t, etcd.DefaultConfig().WithEndpoints(etcdtest.New(t).Endpoints()...))
}
