package integration

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/server/v3/proxy/tcpproxy"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// gateway starts what "etcd gateway start" runs (server/v3, etcdmain/gateway.go) before
// a server, and returns its endpoint.
func gateway(t testing.TB, srv *etcdtest.Server) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	host, number, err := net.SplitHostPort(srv.Endpoint())
	require.NoError(t, err)
	port, err := strconv.ParseUint(number, 10, 16)
	require.NoError(t, err)
	gw := &tcpproxy.TCPProxy{
		Listener:  listener,
		Endpoints: []*net.SRV{{Target: host, Port: uint16(port)}},
	}
	ended := make(chan error, 1)
	go func() { ended <- gw.Run() }()
	t.Cleanup(func() {
		gw.Stop()
		require.ErrorIs(t, <-ended, net.ErrClosed)
	})
	return listener.Addr().String()
}

func TestPutsWatchesAndLocksPassTheGateway(t *testing.T) {
	t.Parallel()
	srv := server(t)
	gw := gateway(t, srv)
	through := etcd.DefaultConfig().WithEndpoints(gw)
	c, direct := client(t, through), client(t, config(srv))
	key, ctx := prefix(t), within(t, 2*patience)

	watch := c.Watch(ctx, key+"value")
	require.NoError(t, c.Put(ctx, key+"value", []byte("by the gateway")))
	require.NoError(t, direct.Put(ctx, key+"value", []byte("by nothing")))
	told := events(t, watch, 2)
	require.Equal(t, "by the gateway", string(told[0].Kv.Value))
	require.Equal(t, "by nothing", string(told[1].Kv.Value))

	holder, waiter := newLock(t, c, key+"lock"), newLock(t, client(t, through), key+"lock")
	require.NoError(t, holder.Lock(ctx))
	taken, err := newLock(t, direct, key+"lock").TryLock(ctx)
	require.NoError(t, err)
	require.False(t, taken, "somebody else has the lock")
	waited := make(chan error, 1)
	go func() { waited <- waiter.Lock(ctx) }()
	queues(t, direct, key+"lock", 2)
	require.NoError(t, holder.Unlock(ctx))
	require.NoError(t, next(t, waited))
	require.NoError(t, waiter.Unlock(ctx))
}
