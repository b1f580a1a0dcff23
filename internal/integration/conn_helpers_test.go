package integration

import (
	"bytes"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// root returns a configuration for the user root.
func root(srv *etcdtest.Server) *etcd.Config { return config(srv).WithAuth("root", rootPassword) }

// reader may read and write what begins with /open/, and nothing else.
func reader() etcdtest.Option {
	return etcdtest.WithUser("reader", userPassword, etcdtest.Permission{Prefix: "/open/", Read: true, Write: true})
}

// succeed answers a request by an empty message.
func succeed(w *http2.Framer, stream uint32) error {
	head := func(fields ...hpack.HeaderField) []byte {
		var b bytes.Buffer
		encoder := hpack.NewEncoder(&b)
		for _, f := range fields {
			_ = encoder.WriteField(f) // to memory
		}
		return b.Bytes()
	}
	if err := w.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, EndHeaders: true,
		BlockFragment: head(hpack.HeaderField{Name: ":status", Value: "200"}, hpack.HeaderField{Name: "content-type", Value: "application/grpc"}),
	}); err != nil {
		return err
	}
	if err := w.WriteData(stream, false, make([]byte, 5)); err != nil {
		return err
	}
	return w.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, EndHeaders: true, EndStream: true,
		BlockFragment: head(hpack.HeaderField{Name: "grpc-status", Value: "0"}),
	})
}

const (
	rootPassword = "the-root-password"
	userPassword = "the-user-password"
)

// silentPort returns an address that takes connections and says nothing.
func silentPort(t *testing.T) string {
	t.Helper()
	p := etcdtest.NewProxy(t, etcdtest.ClosedPort(t))
	p.Blackhole()
	return p.Addr()
}

// garbagePort returns an address that answers everything by nonsense.
func garbagePort(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(answer))
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		<-ended
	})
	return l.Addr().String()
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
