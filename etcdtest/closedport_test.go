//go:build unix

package etcdtest_test

import (
	"net"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/etcdtest"
)

// requireRefused holds that nobody listens on addr, and that the system gives its port to
// nobody else: it takes so many others that it would come to that one.
func requireRefused(t *testing.T, addr string) {
	t.Helper()
	_, err := net.Dial("tcp", addr)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	for range 40_000 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		got := l.Addr().String()
		require.NoError(t, l.Close())
		require.NotEqual(t, addr, got)
	}
}

func TestClosedPortIsGivenToNobodyElse(t *testing.T) {
	t.Parallel()
	requireRefused(t, etcdtest.ClosedPort(t))
}

func TestRefusedAndStoppedPortsAreKept(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t)
	p := etcdtest.NewProxy(t, s.Endpoint())
	p.Refuse()
	requireRefused(t, p.Addr())
	p.Heal()
	s.Stop()
	requireRefused(t, s.Endpoint())
	require.NoError(t, s.Restart())
	put(t, clientOf(t, s), "key", "value")
	s.Stop()
	s.Stop()
	require.NoError(t, s.Close())
}

// A process that is started just when the port is closed has it too, for a moment.
func TestRefusedPortIsKeptWhileProcessesStart(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t)
	p := etcdtest.NewProxy(t, s.Endpoint())
	var starting sync.WaitGroup
	defer starting.Wait()
	ended := make(chan struct{})
	defer close(ended)
	for range 4 {
		starting.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
					assert.NoError(t, exec.CommandContext(t.Context(), "true").Run())
				}
			}
		})
	}
	for range 100 {
		p.Refuse()
		_, err := net.Dial("tcp", p.Addr())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		p.Heal()
	}
}
