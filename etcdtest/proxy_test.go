package etcdtest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd/etcdtest"
)

// past any buffer between two TCP connections and a proxy.
const pastAllBuffers = 64 << 20

// echo starts a server that sends back what it gets, see serve.
func echo(t *testing.T) (addr string, ends <-chan error) {
	t.Helper()
	return serve(t, func(conn net.Conn) error {
		_, err := io.Copy(conn, conn)
		return err
	})
}

// serve starts a server that handles each connection so, and says on the
// returned channel how that ended.
func serve(t *testing.T, handle func(net.Conn) error) (addr string, ends <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	ended := make(chan error, 100)
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			wg.Go(func() {
				defer stop()
				err := handle(conn)
				conn.Close()
				select {
				case ended <- err:
				default: // nobody asks
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		wg.Wait()
	})
	return l.Addr().String(), ended
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := conn.Write([]byte(text))
	require.NoError(t, err)
}

func hear(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

// hearNothing fails if conn gets bytes or an end within a short time.
func hearNothing(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	n, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Zero(t, n)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
}

// isReset fails unless conn was reset, after whatever it may have got before.
func isReset(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, conn)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestProxyForwardsEveryByteAndTheEnd(t *testing.T) {
	t.Parallel()
	addr, ends := echo(t)
	p := etcdtest.NewProxy(t, addr)
	conn := dial(t, p.Addr())

	sent := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(sent)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = conn.Write(sent)
		_ = conn.CloseWrite()
	})
	got, err := io.ReadAll(conn)
	wg.Wait()
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(sent), sha256.Sum256(got))
	require.NoError(t, <-ends)
	require.Eventually(t, func() bool { return p.Connections() == 0 }, 20*time.Second, time.Millisecond)
}

func TestProxyDeliversTheLastBytesAfterLettingGo(t *testing.T) {
	t.Parallel()
	// Little enough for the buffers of the system.
	sent := bytes.Repeat([]byte("x"), 256<<10)
	addr, _ := serve(t, func(conn net.Conn) error {
		if _, err := io.Copy(io.Discard, conn); err != nil {
			return err
		}
		_, err := conn.Write(sent)
		return err
	})
	p := etcdtest.NewProxy(t, addr)
	conn := dial(t, p.Addr())
	require.NoError(t, conn.SetReadBuffer(4<<10)) // most of it has to wait
	say(t, conn, "x")
	require.NoError(t, conn.CloseWrite())
	require.Eventually(t, func() bool { return p.Connections() == 0 }, 20*time.Second, time.Millisecond)
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Len(t, got, len(sent))
}

func TestServerLearnsThatAHalfClosedClientLeft(t *testing.T) {
	t.Parallel()
	addr, ends := serve(t, func(conn net.Conn) error {
		_, err := io.Copy(io.Discard, conn)
		for err == nil {
			_, err = conn.Write(make([]byte, 1<<10))
		}
		return err
	})
	p := etcdtest.NewProxy(t, addr)
	conn := dial(t, p.Addr())
	require.NoError(t, conn.CloseWrite())
	_, err := io.ReadFull(conn, make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	select {
	case err := <-ends:
		require.Error(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("the server still sends")
	}
}

func TestProxyResetsConnectionsWhileItsTargetIsAway(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t)
	s.Stop()
	p := etcdtest.NewProxy(t, s.Endpoint())
	conn, err := net.Dial("tcp", p.Addr())
	if err == nil { // else the reset came before Dial had returned
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)

	require.NoError(t, s.Restart())
	put(t, connect(t, clientv3.Config{Endpoints: []string{p.Addr()}}), "key", "value")
}

func TestCutResetsBothEndsAndTakesNewConnections(t *testing.T) {
	t.Parallel()
	addr, ends := echo(t)
	p := etcdtest.NewProxy(t, addr)
	a, b := dial(t, p.Addr()), dial(t, p.Addr())
	for _, conn := range []net.Conn{a, b} {
		say(t, conn, "x")
		hear(t, conn, "x")
	}
	require.Equal(t, 2, p.Connections())

	p.Cut()
	require.Zero(t, p.Connections())
	isReset(t, a)
	isReset(t, b)
	require.ErrorIs(t, <-ends, syscall.ECONNRESET)
	require.ErrorIs(t, <-ends, syscall.ECONNRESET)

	c := dial(t, p.Addr())
	say(t, c, "again")
	hear(t, c, "again")
}

func TestBlackholeSwallowsAndHealResetsWhoLostBytes(t *testing.T) {
	t.Parallel()
	addr, _ := echo(t)
	p := etcdtest.NewProxy(t, addr)
	talker, idler := dial(t, p.Addr()), dial(t, p.Addr())
	for _, conn := range []net.Conn{talker, idler} {
		say(t, conn, "x")
		hear(t, conn, "x")
	}

	p.Blackhole()
	_, err := talker.Write(make([]byte, pastAllBuffers))
	require.NoError(t, err, "more than fits into buffers: somebody took it")
	hearNothing(t, talker)
	newcomer := dial(t, p.Addr())
	hearNothing(t, newcomer)

	p.Heal()
	isReset(t, talker)
	for _, conn := range []net.Conn{idler, newcomer} {
		say(t, conn, "whole")
		hear(t, conn, "whole")
	}
}

func TestBlackholeOfAnswersLosesWhatTheServerDid(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t)
	p := etcdtest.NewProxy(t, s.Endpoint())
	c := connect(t, clientv3.Config{Endpoints: []string{p.Addr()}})
	put(t, c, "key", "before")
	direct := clientOf(t, s)
	ch := direct.Watch(patient(t), "key", clientv3.WithCreatedNotify())
	require.True(t, (<-ch).Created)

	p.Blackhole(etcdtest.ToClient)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := c.Put(ctx, "key", "after")
		failed <- err
	}()
	require.Equal(t, "after", string((<-ch).Events[0].Kv.Value))
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)

	p.Heal()
	require.Equal(t, "after", get(t, c, "key"), "the client recovers")
}

func TestBlackholeHidesTheEndOfTheServer(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t)
	p := etcdtest.NewProxy(t, s.Endpoint())
	conn := dial(t, p.Addr())
	// The server's greeting; without the client's it waits for that.
	say(t, conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	_, err := io.ReadFull(conn, make([]byte, 9))
	require.NoError(t, err)

	p.Blackhole()
	s.Stop()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = io.Copy(io.Discard, conn)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)

	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	p.Heal()
	_, err = io.Copy(io.Discard, conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

func TestPauseDeliversLaterWhatItHeld(t *testing.T) {
	t.Parallel()
	addr, ends := echo(t)
	p := etcdtest.NewProxy(t, addr)
	conn := dial(t, p.Addr())
	say(t, conn, "x")
	hear(t, conn, "x")

	for _, only := range [][]etcdtest.Direction{nil, {etcdtest.ToServer}, {etcdtest.ToClient}} {
		p.Pause(only...)
		say(t, conn, "held")
		hearNothing(t, conn)
		say(t, conn, " back")
		p.Heal()
		hear(t, conn, "held back")
	}

	p.Pause()
	say(t, conn, "last")
	require.NoError(t, conn.CloseWrite())
	p.Heal()
	hear(t, conn, "last")
	require.NoError(t, <-ends)
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

func TestPauseMayBeCut(t *testing.T) {
	t.Parallel()
	addr, _ := echo(t)
	p := etcdtest.NewProxy(t, addr)
	conn := dial(t, p.Addr())
	say(t, conn, "x")
	hear(t, conn, "x")
	p.Pause()
	say(t, conn, "held")
	hearNothing(t, conn)
	p.Cut()
	isReset(t, conn)
}

func TestRefuseClosesThePortAndHealReopensIt(t *testing.T) {
	t.Parallel()
	addr, _ := echo(t)
	p := etcdtest.NewProxy(t, addr)
	conn := dial(t, p.Addr())
	say(t, conn, "x")
	hear(t, conn, "x")

	p.Refuse()
	p.Refuse() // does nothing
	_, err := net.Dial("tcp", p.Addr())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	say(t, conn, "still there")
	hear(t, conn, "still there")
	p.Cut()
	isReset(t, conn)

	p.Heal()
	p.Heal()
	again := dial(t, p.Addr())
	say(t, again, "x")
	hear(t, again, "x")
}

func TestDelayHoldsEachDirectionAndKeepsTheOrder(t *testing.T) {
	t.Parallel()
	addr, _ := echo(t)
	p := etcdtest.NewProxy(t, addr)
	conn := dial(t, p.Addr())
	const d = 20 * time.Millisecond
	p.Delay(d, 5*time.Millisecond)

	begin := time.Now()
	say(t, conn, "x")
	hear(t, conn, "x")
	require.GreaterOrEqual(t, time.Since(begin), 2*d)

	sent := make([]byte, 6<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(sent)
	got := make([]byte, len(sent))
	var wg sync.WaitGroup
	begin = time.Now()
	wg.Go(func() { _, _ = conn.Write(sent) })
	_, err := io.ReadFull(conn, got)
	wg.Wait()
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(sent), sha256.Sum256(got))
	// In pieces of 32 KiB, one after the other, it would take 3.8 s.
	require.Less(t, time.Since(begin), 3*time.Second)

	p.Heal()
	say(t, conn, "x")
	hear(t, conn, "x")
}

func TestCorruptNextFlipsThatManyBytesTowardsClients(t *testing.T) {
	t.Parallel()
	addr, _ := echo(t)
	p := etcdtest.NewProxy(t, addr)
	conn := dial(t, p.Addr())
	p.CorruptNext(3)
	say(t, conn, "abcd")
	hear(t, conn, "\x9e\x9d\x9cd")
	say(t, conn, "abcd")
	hear(t, conn, "abcd")

	p.CorruptNext(3)
	p.Heal()
	say(t, conn, "abcd")
	hear(t, conn, "abcd")
}

func TestClientSurvivesACorruptAnswer(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t)
	p := etcdtest.NewProxy(t, s.Endpoint())
	c := connect(t, clientv3.Config{Endpoints: []string{p.Addr()}})
	put(t, c, "key", "value")
	p.CorruptNext(9)
	require.Equal(t, "value", get(t, c, "key"))
}

func TestProxyKeepsTheSchemeOfItsTarget(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t, etcdtest.WithTLS())
	p := etcdtest.NewProxy(t, s.Endpoint())
	require.Equal(t, "https://"+p.Addr(), p.Endpoint())
	c := connect(t, clientv3.Config{Endpoints: []string{p.Endpoint()}, TLS: s.TLSConfig()})
	put(t, c, "key", "value")
	p.Cut()
	require.Equal(t, "value", get(t, c, "key"))
}

func TestProxyTakesOrdersFromManyAtOnce(t *testing.T) {
	t.Parallel()
	addr, _ := echo(t)
	p := etcdtest.NewProxy(t, addr)
	var wg sync.WaitGroup
	for _, order := range []func(){
		p.Cut, p.Refuse, p.Heal,
		func() { p.Blackhole() }, func() { p.Pause() },
		func() { p.Delay(time.Millisecond, time.Millisecond) },
		func() { p.CorruptNext(2) },
		func() { p.Connections() },
	} {
		wg.Go(func() {
			for range 50 {
				order()
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for range 50 {
				conn, err := net.Dial("tcp", p.Addr())
				if err != nil {
					continue
				}
				_ = conn.SetDeadline(time.Now().Add(2 * time.Millisecond))
				_, _ = conn.Write([]byte("x"))
				_, _ = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}
		})
	}
	wg.Wait()
	p.Heal()
	conn := dial(t, p.Addr())
	say(t, conn, "x")
	hear(t, conn, "x")
}
