package integration

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/blueprint-go/etcd"
)

// frames is a server that does with each request what a test wants, in terms of
// HTTP/2: proxies do there what no gRPC server does.
type frames struct {
	addr     string
	requests atomic.Int64 // that have come in whole
}

// serveFrames starts a server that has respond called with the number of a request,
// from 1, and its stream.
func serveFrames(t *testing.T, respond func(n int64, w *http2.Framer, stream uint32) error) *frames {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f, ended := &frames{addr: l.Addr().String()}, make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the listener was closed
			}
			go f.serve(conn, respond)
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		<-ended
	})
	return f
}

// serve ends with the connection, which the client closes.
func (f *frames) serve(conn net.Conn, respond func(n int64, w *http2.Framer, stream uint32) error) {
	defer conn.Close()
	if _, err := io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	err := framer.WriteSettings()
	for err == nil {
		var frame http2.Frame
		if frame, err = framer.ReadFrame(); err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				err = framer.WritePing(true, frame.Data)
			}
		case *http2.DataFrame:
			if frame.StreamEnded() {
				err = respond(f.requests.Add(1), framer, frame.StreamID)
			}
		}
	}
}

// HAProxy refuses the stream of a request that its server has carried out, when it
// loses that server before the answer.
func TestRefusedStreamLeavesAWriteUnknownAndUnrepeated(t *testing.T) {
	t.Parallel()
	f := serveFrames(t, func(_ int64, w *http2.Framer, stream uint32) error {
		return w.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
	})
	plain := func() *etcd.Config { return etcd.DefaultConfig().WithEndpoints(f.addr).WithLazyConnect() }
	for mode, cfg := range map[string]*etcd.Config{"plain": plain(), "encrypted": plain().WithEncryption(testKey)} {
		c := client(t, cfg)
		for name, write := range map[string]func(ctx context.Context) error{
			"put":    func(ctx context.Context) error { return c.Put(ctx, "k", []byte("v")) },
			"delete": func(ctx context.Context) error { return second(c.Delete(ctx, "k")) },
			"swap":   func(ctx context.Context) error { return second(c.CompareAndSwapRevision(ctx, "k", 1, []byte("v"))) },
			"bulk":   func(ctx context.Context) error { return c.BulkPut(ctx, manyValues(3)) },
			"commit": func(ctx context.Context) error { return second(c.Txn().Then(etcd.OpPut("k", nil)).Commit(ctx)) },
			"create": func(ctx context.Context) error { return second(c.PutIfNotExists(ctx, "k", nil)) },
		} {
			f.requests.Store(0)
			err := write(within(t, patience))
			require.ErrorIs(t, err, etcd.ErrUnavailable, "%s, %s", name, mode)
			require.True(t, etcd.MaybeApplied(err), "%s, %s", name, mode)
			require.Equal(t, int64(1), f.requests.Load(), "%s, %s", name, mode)
		}
	}
}

func TestReadOnARefusedStreamIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := serveFrames(t, func(n int64, w *http2.Framer, stream uint32) error {
		if n <= 3 {
			return w.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
		}
		return succeed(w, stream)
	})
	c := client(t, etcd.DefaultConfig().WithEndpoints(f.addr).WithLazyConnect().WithTimeout(busyTimeout))
	require.ErrorIs(t, second(c.Get(t.Context(), "k")), etcd.ErrKeyNotFound)
	require.Equal(t, int64(4), f.requests.Load())
}

// A server that says which request was its last on a connection has not looked at
// those behind it: they are sent again, and nobody is troubled.
func TestWritePastTheGoAwayIsSentAgain(t *testing.T) {
	t.Parallel()
	f := serveFrames(t, func(n int64, w *http2.Framer, stream uint32) error {
		if n <= 3 {
			return w.WriteGoAway(0, http2.ErrCodeNo, nil)
		}
		return succeed(w, stream)
	})
	c := client(t, etcd.DefaultConfig().WithEndpoints(f.addr).WithLazyConnect().WithTimeout(busyTimeout))
	require.NoError(t, c.Put(t.Context(), "k", []byte("v")))
	require.Equal(t, int64(4), f.requests.Load())
}
