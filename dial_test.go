package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/test/bufconn"
)

func plaintext(address string) *Config { return new(Config).WithEndpoints(address) }

func overTLS(a *authority, address string) *Config {
	return new(Config).WithEndpoints(address).WithTLSConfig(&tls.Config{RootCAs: a.pool()})
}

func serverTLS(pair tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}
}

// requireCause connects to address and expects the failure of kind, or success
// if kind is nil.
func requireCause(t *testing.T, cfg *Config, kind error) error {
	t.Helper()
	err := connectOnce(t, cfg)
	require.ErrorIs(t, err, kind)
	if kind != nil {
		assert.True(t, permanent(err), "%v", err)
	}
	return err
}

func causeAs[E error](t *testing.T, err error) {
	t.Helper()
	_, ok := errors.AsType[E](err)
	assert.True(t, ok, "%T is not in the chain of %v", *new(E), err)
}

func TestAServerThatSpeaksHTTP2IsNoFailure(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	requireCause(t, plaintext(serveGRPC(t, listen(t), nil)), nil)
	requireCause(t, overTLS(a, serveGRPC(t, listen(t), serverTLS(a.issue()))), nil)
}

func TestAServerMayBeginByteByByte(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	address := serve(t, listen(t), func(conn net.Conn) {
		server := tls.Server(conn, serverTLS(a.issue()))
		for _, b := range []byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00") {
			_, _ = server.Write([]byte{b}) // a record each, and so a Read each
		}
		_, _ = io.Copy(io.Discard, server)
	})
	requireCause(t, overTLS(a, address), nil)
}

func TestAnUnknownAuthorityIsTold(t *testing.T) {
	t.Parallel()
	address := serveGRPC(t, listen(t), serverTLS(newAuthority(t).issue()))
	causeAs[x509.UnknownAuthorityError](t, requireCause(t, overTLS(newAuthority(t), address), ErrUnknownAuthority))
	requireCause(t, new(Config).WithEndpoints(address).WithTLS("", "", "", true), nil)
	requireCause(t, new(Config).WithEndpoints("https://"+address), ErrUnknownAuthority)
}

func TestAWrongHostNameIsTold(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	address := serveGRPC(t, listen(t), serverTLS(a.issue(func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"etcd.example"}, nil
	})))
	causeAs[x509.HostnameError](t, requireCause(t, overTLS(a, address), ErrWrongHostName))
}

func TestTheConfiguredServerNameWinsOverTheEndpointsHost(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	address := serveGRPC(t, listen(t), serverTLS(a.issue(func(c *x509.Certificate) {
		c.DNSNames = []string{"etcd.example"}
	})))
	named := overTLS(a, address)
	named.TLSConfig.ServerName = "etcd.example"
	requireCause(t, overTLS(a, address).WithServerName("etcd.example"), nil)
	requireCause(t, named, nil)

	// The host would match; the configured name does not.
	requireCause(t, overTLS(a, address).WithServerName("other.example"), ErrWrongHostName)
	named.TLSConfig.ServerName = "other.example"
	requireCause(t, named, ErrWrongHostName)
	requireCause(t, named.WithServerName("etcd.example"), nil)
}

func TestAnExpiredCertificateIsTold(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for _, validity := range [][2]time.Duration{{-2 * time.Hour, -time.Hour}, {time.Hour, 2 * time.Hour}} {
		address := serveGRPC(t, listen(t), serverTLS(a.issue(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(validity[0]), time.Now().Add(validity[1])
		})))
		causeAs[x509.CertificateInvalidError](t, requireCause(t, overTLS(a, address), ErrCertificateExpired))
	}
}

func TestACertificateInvalidForAnotherReasonIsPermanentToo(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	address := serveGRPC(t, listen(t), serverTLS(a.issue(func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})))
	err := connectOnce(t, overTLS(a, address))
	causeAs[*tls.CertificateVerificationError](t, err)
	assert.NotErrorIs(t, err, ErrCertificateExpired)
	assert.True(t, permanent(err))
}

func TestARefusedClientCertificateIsTold(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server := serverTLS(a.issue())
		server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, a.pool()
		server.MinVersion, server.MaxVersion = version, version
		address := serveGRPC(t, listen(t), server)
		withPair := func(pair tls.Certificate) *Config {
			cert, key := writePair(t, t.TempDir(), pair)
			return new(Config).WithEndpoints(address).WithTLS(cert, key, a.file(), false)
		}
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			for name, cfg := range map[string]*Config{
				"missing":            overTLS(a, address),
				"of other authority": withPair(other.issue()),
				"expired":            withPair(a.issue(expired)),
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					causeAs[*net.OpError](t, requireCause(t, cfg, ErrClientCertificate))
				})
			}
			requireCause(t, withPair(a.issue()), nil)
			own := overTLS(a, address)
			own.TLSConfig.Certificates = []tls.Certificate{a.issue()}
			requireCause(t, own, nil)
		})
	}
}

// The alert is the same as for a missing certificate under TLS 1.2.
func TestAHandshakeThatFailsForAnotherReasonIsNotLaidOnTheClientCertificate(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	server := serverTLS(a.issue())
	server.MaxVersion, server.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	err := connectOnce(t, overTLS(a, serveGRPC(t, listen(t), server)))
	assert.ErrorContains(t, err, "handshake failure")
	assert.NotErrorIs(t, err, ErrClientCertificate)
}

// The alert about a TLS 1.3 client's certificate comes when the client has begun
// to write, so the connection may break there first.
func TestARefusedClientCertificateIsToldEvenIfWritingFailsFirst(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	server := serverTLS(a.issue())
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, a.pool()
	address := serveGRPC(t, listen(t), server)
	cfg := overTLS(a, address).WithDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &brokenForWriting{Conn: conn}, err
	})
	requireCause(t, cfg, ErrClientCertificate)
}

// brokenForWriting fails each Write after those of a TLS 1.3 handshake: the
// hello, and what follows the server's.
type brokenForWriting struct {
	net.Conn
	writes int
}

func (c *brokenForWriting) Write(b []byte) (int, error) {
	if c.writes++; c.writes > 2 {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(b)
}

func TestAServerWithoutTLSIsTold(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	causeAs[tls.RecordHeaderError](t, requireCause(t, overTLS(a, serveGRPC(t, listen(t), nil)), ErrNotTLS))
	requireCause(t, overTLS(a, serve(t, listen(t), waitThenClose)), ErrNotTLS)
	requireCause(t, overTLS(a, serve(t, listen(t), say("HTTP/1.1 400 Bad Request\r\n\r\n"))), ErrNotTLS)
}

func TestAServerThatRequiresTLSIsTold(t *testing.T) {
	t.Parallel()
	cfg := serverTLS(newAuthority(t).issue())
	picky := serverTLS(newAuthority(t).issue())
	picky.NextProtos = []string{"other"}
	for name, answer := range map[string]func(net.Conn){
		"hangs up":          handshakeThenClose(cfg),
		"hangs up on both":  handshakeThenClose(picky),
		"sends an alert":    say("\x15\x03\x01\x00\x02\x02\x46"),
		"sends a web page":  tlsOr(cfg, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"),
		"sends a short hey": tlsOr(cfg, "hey!"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireCause(t, plaintext(serve(t, listen(t), answer)), ErrTLSRequired)
		})
	}
}

func TestAServerThatIsNotEtcdIsTold(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cfg := serverTLS(a.issue())
	noALPN, otherALPN := cfg.Clone(), cfg.Clone()
	noALPN.NextProtos, otherALPN.NextProtos = nil, []string{"http/1.1"}
	for name, answer := range map[string]string{
		"web server":         "HTTP/1.1 400 Bad Request\r\n\r\n",
		"short":              "hey!",
		"other frame":        "\x00\x00\x06\x06\x00\x00\x00\x00\x00",
		"odd length":         "\x00\x00\x07\x04\x00\x00\x00\x00\x00",
		"acknowledgement":    "\x00\x00\x00\x04\x01\x00\x00\x00\x00",
		"settings elsewhere": "\x00\x00\x00\x04\x00\x00\x00\x00\x01",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := requireCause(t, plaintext(serve(t, listen(t), say(answer))), ErrNotEtcd)
			assert.ErrorContains(t, err, "it answered with")
			requireCause(t, overTLS(a, serve(t, listen(t), func(conn net.Conn) { say(answer)(tls.Server(conn, cfg)) })), ErrNotEtcd)
		})
	}
	requireCause(t, overTLS(a, serve(t, listen(t), handshakeThenClose(noALPN))), ErrNotEtcd)
	requireCause(t, overTLS(a, serve(t, listen(t), handshakeThenClose(otherALPN))), ErrNotEtcd)
}

func TestNothingListeningIsToldAndMayPass(t *testing.T) {
	t.Parallel()
	l := listen(t)
	require.NoError(t, l.Close())
	err := connectOnce(t, plaintext(l.Addr().String()))
	assert.ErrorIs(t, err, ErrConnectionRefused)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	assert.False(t, permanent(err))

	err = connectOnce(t, plaintext("unix://"+filepath.Join(t.TempDir(), "none.sock")))
	assert.ErrorIs(t, err, ErrConnectionRefused)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.False(t, permanent(err))
}

// A server that is stopping, or a proxy in front of none, hangs up whoever comes.
func TestAServerThatHangsUpOnEveryoneMayPass(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]func(string) *Config{
		"plaintext": plaintext,
		"TLS":       func(address string) *Config { return overTLS(newAuthority(t), address) },
	} {
		err := connectOnce(t, cfg(serve(t, listen(t), func(net.Conn) {})))
		require.Error(t, err, name)
		assert.True(t, closedByPeer(err), "%s: %v", name, err)
		assert.False(t, permanent(err), "%s: %v", name, err)
		for _, kind := range []error{ErrNotTLS, ErrTLSRequired, ErrNotEtcd} {
			assert.NotErrorIs(t, err, kind, name)
		}
	}
}

func TestAServerThatHangsUpAndIsGoneMayPass(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]func(string) *Config{
		"plaintext": plaintext,
		"TLS":       func(address string) *Config { return overTLS(newAuthority(t), address) },
	} {
		l := listen(t)
		err := connectOnce(t, cfg(serve(t, l, func(conn net.Conn) {
			_ = l.Close()
			waitThenClose(conn)
		})))
		require.Error(t, err, name)
		assert.False(t, permanent(err), "%s: %v", name, err)
	}
}

func TestASilentServerIsToldAndMayPass(t *testing.T) {
	t.Parallel()
	silent := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	for text, cfg := range map[string]*Config{
		"HTTP/2 settings from the server": plaintext(serve(t, listen(t), silent)),
		"end of the TLS handshake":        overTLS(newAuthority(t), serve(t, listen(t), silent)),
	} {
		err := connectOnce(t, cfg.WithDialTimeout(2*time.Second))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorContains(t, err, text)
		assert.False(t, permanent(err))
	}
}

func TestTheDialersErrorIsTheCause(t *testing.T) {
	t.Parallel()
	err := connectOnce(t, plaintext("a:1").WithDialer(func(context.Context, string, string) (net.Conn, error) {
		return nil, errScripted
	}))
	assert.ErrorIs(t, err, errScripted)
	assert.EqualError(t, err, "a:1: scripted failure")

	err = connectOnce(t, plaintext("a:1").WithDialer(func(context.Context, string, string) (net.Conn, error) {
		return nil, nil
	}))
	assert.ErrorContains(t, err, "neither a connection nor an error")
}

func TestConnectionsThatAreNotTCPWorkToo(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	l := bufconn.Listen(1 << 16)
	serveGRPC(t, l, serverTLS(a.issue()))
	requireCause(t, overTLS(a, "localhost:1").WithDialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return l.DialContext(ctx)
	}), nil)

	dir, err := os.MkdirTemp("", "") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "localhost")
	socket, err := net.Listen("unix", path)
	require.NoError(t, err)
	serveGRPC(t, socket, serverTLS(a.issue()))
	requireCause(t, overTLS(a, "unixs://"+path), nil)
}

func TestFailuresAreSortedAndNamedAsConfigured(t *testing.T) {
	t.Parallel()
	endpoints := []string{"http://g:1", "f:1", "unix:///a", "http://f:1", "e:1", "d:1", "c:1", "b:1"}
	err := connectOnce(t, new(Config).WithEndpoints(endpoints...).
		WithDialer(func(context.Context, string, string) (net.Conn, error) { return nil, errScripted }))
	slices.Sort(endpoints)
	assert.EqualError(t, err, strings.Join(endpoints, ": scripted failure; ")+": scripted failure")
}

func resolvedLog(t *testing.T, cfg *Config) *dialer {
	r, err := cfg.resolved()
	require.NoError(t, err)
	return newDialer(r.dialing())
}

func TestASuccessForgetsTheFailureBefore(t *testing.T) {
	t.Parallel()
	address := serveGRPC(t, listen(t), nil)
	var up atomic.Bool
	l := resolvedLog(t, plaintext("a:1").WithDialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
		if !up.Load() {
			return nil, errScripted
		}
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}))
	require.ErrorIs(t, connectOnceWith(t, l), errScripted)
	up.Store(true)
	require.NoError(t, connectOnceWith(t, l))
	assert.Empty(t, l.failures())
}

func TestAnAttemptThatWasCalledOffIsNoFailure(t *testing.T) {
	t.Parallel()
	l := resolvedLog(t, plaintext("a:1").WithDialer(func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.dial(ctx, "a:1")
	require.ErrorIs(t, err, context.Canceled)
	assert.NoError(t, troubles(l))
}

func TestAnEndpointThatIsNoLongerTriedIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := resolvedLog(t, plaintext("a:1").WithDialer(func(context.Context, string, string) (net.Conn, error) {
			return nil, errScripted
		}))
		_, err := l.dial(t.Context(), "advertised:1")
		require.ErrorIs(t, err, errScripted)
		<-time.After(failureLifetime)
		assert.EqualError(t, troubles(l), "advertised:1: scripted failure")
		<-time.After(1)
		assert.NoError(t, troubles(l))
		assert.Empty(t, l.failed)
	})
}

func TestEachChangeOfTheFailuresIsAnnounced(t *testing.T) {
	t.Parallel()
	l := resolvedLog(t, plaintext("a:1"))
	for _, change := range []func(){
		func() { l.noteFailure(t.Context(), target{"tcp", "a:1"}, errScripted) },
		func() { l.succeed(target{"tcp", "a:1"}) },
	} {
		changed := l.changed()
		select {
		case <-changed:
			t.Fatal("announced before it happened")
		default:
		}
		change()
		<-changed
	}
}

func TestNothingIsKeptOfAnAttemptThatHasEnded(t *testing.T) {
	t.Parallel()
	l := resolvedLog(t, plaintext(serveGRPC(t, listen(t), nil)))
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := l.dial(ctx, l.endpoints[0].address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, got := l.untag(conn)
	assert.Equal(t, target{"tcp", l.endpoints[0].address}, got)
	assert.IsType(t, &net.TCPConn{}, conn, "gRPC sets TCP_USER_TIMEOUT on this type alone")
	cancel()
	require.Eventually(t, func() bool { _, got := l.untag(conn); return got == target{} }, 10*time.Second, time.Millisecond)
}

// The secrets that a client would send are held back until TLS stands.
func TestNothingIsSentInPlaintextWhenTLSIsConfigured(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for name, answer := range map[string]func(net.Conn){
		"server without TLS":          waitThenClose,
		"server that hangs up":        func(net.Conn) {},
		"server that answers in text": say("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"server that speaks first": func(conn net.Conn) {
			_, _ = conn.Write([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
			waitThenClose(conn)
		},
		"unknown authority": handshakeThenClose(serverTLS(newAuthority(t).issue())),
		"good server":       handshakeThenClose(serverTLS(a.issue())),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard := &recording{Listener: listen(t)}
			address := serve(t, heard, answer)
			require.Error(t, connectOnce(t, overTLS(a, address).WithAuth("alice", secretPassword)))
			for _, text := range heard.all() {
				if text != "" {
					assert.Equal(t, "\x16\x03", text[:2], "a TLS record")
				}
				assert.NotContains(t, text, "PRI * HTTP/2.0")
				assert.NotContains(t, text, secretPassword)
			}
		})
	}
}

const secretPassword = "hunter2-password"

// An endpoint that the cluster advertises can't turn TLS off.
func TestTLSHoldsForEndpointsThatAreSetLater(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	heard := &recording{Listener: listen(t)}
	later := serve(t, heard, waitThenClose)
	l := resolvedLog(t, overTLS(a, serveGRPC(t, listen(t), serverTLS(a.issue()))))
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{l.endpoints[0].raw}, DialOptions: l.dialOptions(), Logger: zap.NewNop()})
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	changed := l.changed()
	c.ActiveConnection().Connect()
	<-changed
	require.NoError(t, troubles(l))
	changed = l.changed()
	c.SetEndpoints("http://" + later)
	<-changed
	assert.ErrorIs(t, troubles(l), ErrNotTLS)
	assert.Contains(t, heard.all()[0], "\x16\x03")
}

func TestTheHandshakerNamesItsProtocolAndClones(t *testing.T) {
	t.Parallel()
	secure := newHandshaker(resolvedLog(t, plaintext("https://a:1").WithServerName("etcd.example"))).Clone()
	assert.Equal(t, "tls", secure.Info().SecurityProtocol)
	assert.Equal(t, "etcd.example", secure.Info().ServerName)
	assert.Equal(t, "insecure", newHandshaker(resolvedLog(t, plaintext("a:1"))).Clone().Info().SecurityProtocol)
}

func TestTheApplicationsOwnVerificationStillCounts(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cfg := overTLS(a, serveGRPC(t, listen(t), serverTLS(a.issue())))
	cfg.TLSConfig.VerifyConnection = func(tls.ConnectionState) error { return errScripted }
	require.ErrorIs(t, connectOnce(t, cfg), errScripted)
}
