package etcd_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/internal/dial/dialtest"
)

// The secrets that a client would send are held back until TLS stands.
func TestPasswordIsNeverSentWithoutTheConfiguredTLS(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	file := a.File()
	for name, answer := range dialtest.Peers(t, a) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard := &dialtest.Recording{Listener: dialtest.Listen(t)}
			address := dialtest.Serve(t, heard, answer)
			_, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(address).WithDialTimeout(time.Second).
				WithTLS("", "", file, false).WithAuth("alice", secretPassword))
			require.Error(t, err)
			for _, text := range heard.All() {
				assert.NotContains(t, text, "PRI * HTTP/2.0")
				assert.NotContains(t, text, secretPassword)
			}
		})
	}
}

// The address of a process that hangs is tried last the next time.
func TestAddressThatHangsIsPassedBy(t *testing.T) {
	t.Parallel()
	var met atomic.Int64
	for _, order := range [][2]string{{"127.0.0.2", "127.0.0.3"}, {"127.0.0.3", "127.0.0.2"}} {
		hung, err := net.Listen("tcp", order[0]+":0")
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(hung.Addr().String())
		require.NoError(t, err)
		dialtest.Serve(t, hung, func(conn net.Conn) {
			met.Add(1)
			_, _ = io.Copy(io.Discard, conn)
		})
		good, err := net.Listen("tcp", order[1]+":"+port)
		require.NoError(t, err)
		s := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return errors.New("somebody") }))
		var running sync.WaitGroup
		running.Go(func() { _ = s.Serve(good) })
		t.Cleanup(func() {
			s.Stop()
			running.Wait()
		})
		z := dialtest.Zone{Addr: map[string][]netip.Addr{"m.example.test.": {netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")}}}
		c, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints("m.example.test:" + port).WithResolver(z.Resolver(t)).
			WithDialTimeout(time.Second).WithTimeout(30 * time.Second).WithLazyConnect())
		require.NoError(t, err)
		_, err = c.Exists(t.Context(), "key")
		require.ErrorContains(t, err, "somebody")
		require.NoError(t, c.Close())
	}
	assert.Positive(t, met.Load(), "one of them is tried first")
}
