package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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

	"github.com/blueprint-go/etcd/internal/dial/dialtest"
	"github.com/blueprint-go/etcd/internal/errs"
)

func TestServerThatSpeaksHTTP2IsNoFailure(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	requireCause(t, plaintext(dialtest.ServeGRPC(t, dialtest.Listen(t), nil)), nil)
	requireCause(t, overTLS(a, dialtest.ServeGRPC(t, dialtest.Listen(t), dialtest.ServerTLS(a.Issue()))), nil)
}

func TestAServerMayBeginByteByByte(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	address := dialtest.Serve(t, dialtest.Listen(t), func(conn net.Conn) {
		server := tls.Server(conn, dialtest.ServerTLS(a.Issue()))
		for _, b := range []byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00") {
			_, _ = server.Write([]byte{b}) // a record each, and so a Read each
		}
		_, _ = io.Copy(io.Discard, server)
	})
	requireCause(t, overTLS(a, address), nil)
}

func TestAnUnknownAuthorityIsTold(t *testing.T) {
	t.Parallel()
	address := dialtest.ServeGRPC(t, dialtest.Listen(t), dialtest.ServerTLS(dialtest.NewAuthority(t).Issue()))
	causeAs[x509.UnknownAuthorityError](t, requireCause(t, overTLS(dialtest.NewAuthority(t), address), errs.ErrUnknownAuthority))
	requireCause(t, with(to(address), TLSParams{InsecureSkipVerify: true}), nil)
	requireCause(t, with(to("https://"+address), TLSParams{}), errs.ErrUnknownAuthority)
}

func TestAWrongHostNameIsTold(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	address := dialtest.ServeGRPC(t, dialtest.Listen(t), dialtest.ServerTLS(a.Issue(func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"etcd.example"}, nil
	})))
	causeAs[x509.HostnameError](t, requireCause(t, overTLS(a, address), errs.ErrWrongHostName))
}

func TestConfiguredServerNameWinsOverEndpointHost(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	address := dialtest.ServeGRPC(t, dialtest.Listen(t), dialtest.ServerTLS(a.Issue(func(c *x509.Certificate) {
		c.DNSNames = []string{"etcd.example"}
	})))
	own := overTLS(a, address)
	own.TLS.Config.ServerName = "etcd.example"
	requireCause(t, named(overTLS(a, address), "etcd.example"), nil)
	requireCause(t, own, nil)

	// The host would match; the configured name does not.
	requireCause(t, named(overTLS(a, address), "other.example"), errs.ErrWrongHostName)
	own.TLS.Config.ServerName = "other.example"
	requireCause(t, own, errs.ErrWrongHostName)
	requireCause(t, named(own, "etcd.example"), nil)
}

func TestAnExpiredCertificateIsTold(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	for _, validity := range [][2]time.Duration{{-2 * time.Hour, -time.Hour}, {time.Hour, 2 * time.Hour}} {
		address := dialtest.ServeGRPC(t, dialtest.Listen(t), dialtest.ServerTLS(a.Issue(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(validity[0]), time.Now().Add(validity[1])
		})))
		causeAs[x509.CertificateInvalidError](t, requireCause(t, overTLS(a, address), errs.ErrCertificateExpired))
	}
}

func TestOtherwiseInvalidCertificateIsPermanent(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	address := dialtest.ServeGRPC(t, dialtest.Listen(t), dialtest.ServerTLS(a.Issue(func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})))
	err := connectOnce(t, overTLS(a, address))
	causeAs[*tls.CertificateVerificationError](t, err)
	assert.NotErrorIs(t, err, errs.ErrCertificateExpired)
	assert.True(t, IsPermanent(err))
}

func TestARefusedClientCertificateIsTold(t *testing.T) {
	t.Parallel()
	a, other := dialtest.NewAuthority(t), dialtest.NewAuthority(t)
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server := dialtest.ServerTLS(a.Issue())
		server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, a.Pool()
		server.MinVersion, server.MaxVersion = version, version
		address := dialtest.ServeGRPC(t, dialtest.Listen(t), server)
		withPair := func(pair tls.Certificate) Params {
			cert, key := dialtest.WritePair(t, t.TempDir(), pair)
			return with(to(address), TLSParams{CertFile: cert, KeyFile: key, CAFile: a.File()})
		}
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			for name, cfg := range map[string]Params{
				"missing":            overTLS(a, address),
				"of other authority": withPair(other.Issue()),
				"expired":            withPair(a.Issue(expired)),
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					causeAs[*net.OpError](t, requireCause(t, cfg, errs.ErrClientCertificate))
				})
			}
			requireCause(t, withPair(a.Issue()), nil)
			own := overTLS(a, address)
			own.TLS.Config.Certificates = []tls.Certificate{a.Issue()}
			requireCause(t, own, nil)
		})
	}
}

// The alert is the same as for a missing certificate under TLS 1.2.
func TestOtherHandshakeFailuresDontBlameTheClientCertificate(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	server := dialtest.ServerTLS(a.Issue())
	server.MaxVersion, server.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	err := connectOnce(t, overTLS(a, dialtest.ServeGRPC(t, dialtest.Listen(t), server)))
	assert.ErrorContains(t, err, "handshake failure")
	assert.NotErrorIs(t, err, errs.ErrClientCertificate)
}

// The alert about a TLS 1.3 client's certificate comes when the client has begun
// to write, so the connection may break there first.
func TestRefusedClientCertificateIsReportedAfterFailedWrites(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	server := dialtest.ServerTLS(a.Issue())
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, a.Pool()
	address := dialtest.ServeGRPC(t, dialtest.Listen(t), server)
	cfg := by(overTLS(a, address), func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &brokenForWriting{Conn: conn}, err
	})
	requireCause(t, cfg, errs.ErrClientCertificate)
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
	a := dialtest.NewAuthority(t)
	causeAs[tls.RecordHeaderError](t, requireCause(t, overTLS(a, dialtest.ServeGRPC(t, dialtest.Listen(t), nil)), errs.ErrNotTLS))
	requireCause(t, overTLS(a, dialtest.Serve(t, dialtest.Listen(t), dialtest.WaitThenClose)), errs.ErrNotTLS)
	requireCause(t, overTLS(a, dialtest.Serve(t, dialtest.Listen(t), dialtest.Say("HTTP/1.1 400 Bad Request\r\n\r\n"))), errs.ErrNotTLS)
}

func TestAServerThatRequiresTLSIsTold(t *testing.T) {
	t.Parallel()
	cfg := dialtest.ServerTLS(dialtest.NewAuthority(t).Issue())
	picky := dialtest.ServerTLS(dialtest.NewAuthority(t).Issue())
	picky.NextProtos = []string{"other"}
	for name, answer := range map[string]func(net.Conn){
		"hangs up":          dialtest.HandshakeThenClose(cfg),
		"hangs up on both":  dialtest.HandshakeThenClose(picky),
		"sends an alert":    dialtest.Say("\x15\x03\x01\x00\x02\x02\x46"),
		"sends a web page":  dialtest.TLSOr(cfg, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"),
		"sends a short hey": dialtest.TLSOr(cfg, "hey!"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireCause(t, plaintext(dialtest.Serve(t, dialtest.Listen(t), answer)), errs.ErrTLSRequired)
		})
	}
}

func TestAServerThatIsNotEtcdIsTold(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	cfg := dialtest.ServerTLS(a.Issue())
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
			err := requireCause(t, plaintext(dialtest.Serve(t, dialtest.Listen(t), dialtest.Say(answer))), errs.ErrNotEtcd)
			assert.ErrorContains(t, err, "it answered with")
			requireCause(t, overTLS(a, dialtest.Serve(t, dialtest.Listen(t), func(conn net.Conn) { dialtest.Say(answer)(tls.Server(conn, cfg)) })), errs.ErrNotEtcd)
		})
	}
	requireCause(t, overTLS(a, dialtest.Serve(t, dialtest.Listen(t), dialtest.HandshakeThenClose(noALPN))), errs.ErrNotEtcd)
	requireCause(t, overTLS(a, dialtest.Serve(t, dialtest.Listen(t), dialtest.HandshakeThenClose(otherALPN))), errs.ErrNotEtcd)
}

func TestNothingListeningIsToldAndMayPass(t *testing.T) {
	t.Parallel()
	l := dialtest.Listen(t)
	require.NoError(t, l.Close())
	err := connectOnce(t, plaintext(l.Addr().String()))
	assert.ErrorIs(t, err, errs.ErrConnectionRefused)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	assert.False(t, IsPermanent(err))

	err = connectOnce(t, plaintext("unix://"+filepath.Join(t.TempDir(), "none.sock")))
	assert.ErrorIs(t, err, errs.ErrConnectionRefused)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.False(t, IsPermanent(err))
}

// A server that is stopping, or a proxy in front of none, hangs up whoever comes.
func TestServerThatHangsUpOnEveryoneMayRecover(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]func(string) Params{
		"plaintext": plaintext,
		"TLS":       func(address string) Params { return overTLS(dialtest.NewAuthority(t), address) },
	} {
		err := connectOnce(t, cfg(dialtest.Serve(t, dialtest.Listen(t), func(net.Conn) {})))
		require.Error(t, err, name)
		assert.True(t, closedByPeer(err), "%s: %v", name, err)
		assert.False(t, IsPermanent(err), "%s: %v", name, err)
		for _, kind := range []error{errs.ErrNotTLS, errs.ErrTLSRequired, errs.ErrNotEtcd} {
			assert.NotErrorIs(t, err, kind, name)
		}
	}
}

func TestServerThatHangsUpAndVanishesMayRecover(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]func(string) Params{
		"plaintext": plaintext,
		"TLS":       func(address string) Params { return overTLS(dialtest.NewAuthority(t), address) },
	} {
		l := dialtest.Listen(t)
		err := connectOnce(t, cfg(dialtest.Serve(t, l, func(conn net.Conn) {
			_ = l.Close()
			dialtest.WaitThenClose(conn)
		})))
		require.Error(t, err, name)
		assert.False(t, IsPermanent(err), "%s: %v", name, err)
	}
}

func TestASilentServerIsToldAndMayPass(t *testing.T) {
	t.Parallel()
	silent := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	for text, cfg := range map[string]Params{
		"HTTP/2 settings from the server": plaintext(dialtest.Serve(t, dialtest.Listen(t), silent)),
		"end of the TLS handshake":        overTLS(dialtest.NewAuthority(t), dialtest.Serve(t, dialtest.Listen(t), silent)),
	} {
		cfg.Timeout = 2 * time.Second
		err := connectOnce(t, cfg)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorContains(t, err, text)
		assert.False(t, IsPermanent(err))
	}
}

func TestTheDialersErrorIsTheCause(t *testing.T) {
	t.Parallel()
	err := connectOnce(t, by(plaintext("a:1"), func(context.Context, string, string) (net.Conn, error) {
		return nil, errScripted
	}))
	assert.ErrorIs(t, err, errScripted)
	assert.EqualError(t, err, "a:1: scripted failure")

	err = connectOnce(t, by(plaintext("a:1"), func(context.Context, string, string) (net.Conn, error) {
		return nil, nil
	}))
	assert.ErrorContains(t, err, "neither a connection nor an error")
}

func TestConnectionsThatAreNotTCPWorkToo(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	l := bufconn.Listen(1 << 16)
	dialtest.ServeGRPC(t, l, dialtest.ServerTLS(a.Issue()))
	requireCause(t, by(overTLS(a, "localhost:1"), func(ctx context.Context, _, _ string) (net.Conn, error) {
		return l.DialContext(ctx)
	}), nil)

	dir, err := os.MkdirTemp("", "") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "localhost")
	socket, err := net.Listen("unix", path)
	require.NoError(t, err)
	dialtest.ServeGRPC(t, socket, dialtest.ServerTLS(a.Issue()))
	requireCause(t, overTLS(a, "unixs://"+path), nil)
}

func TestFailuresAreSortedAndNamedAsConfigured(t *testing.T) {
	t.Parallel()
	endpoints := []string{"http://g:1", "f:1", "unix:///a", "http://f:1", "e:1", "d:1", "c:1", "b:1"}
	err := connectOnce(t, by(to(endpoints...), func(context.Context, string, string) (net.Conn, error) { return nil, errScripted }))
	slices.Sort(endpoints)
	assert.EqualError(t, err, strings.Join(endpoints, ": scripted failure; ")+": scripted failure")
}

func TestASuccessForgetsTheFailureBefore(t *testing.T) {
	t.Parallel()
	address := dialtest.ServeGRPC(t, dialtest.Listen(t), nil)
	var up atomic.Bool
	l := newDialer(by(plaintext("a:1"), func(ctx context.Context, _, _ string) (net.Conn, error) {
		if !up.Load() {
			return nil, errScripted
		}
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}))
	require.ErrorIs(t, connectOnceWith(t, l), errScripted)
	up.Store(true)
	require.NoError(t, connectOnceWith(t, l))
	assert.Empty(t, l.Failures())
}

func TestCancelledAttemptIsNoFailure(t *testing.T) {
	t.Parallel()
	l := newDialer(by(plaintext("a:1"), func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.dial(ctx, "a:1")
	require.ErrorIs(t, err, context.Canceled)
	assert.NoError(t, troubles(l))
}

func TestEndpointNoLongerTriedIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newDialer(by(plaintext("a:1"), func(context.Context, string, string) (net.Conn, error) {
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
	l := newDialer(plaintext("a:1"))
	for _, change := range []func(){
		func() { l.noteFailure(t.Context(), target{"tcp", "a:1"}, errScripted) },
		func() { l.succeed(target{"tcp", "a:1"}) },
	} {
		changed := l.Changed()
		select {
		case <-changed:
			t.Fatal("announced before it happened")
		default:
		}
		change()
		<-changed
	}
}

func TestNothingIsKeptOfAnEndedAttempt(t *testing.T) {
	t.Parallel()
	l := newDialer(plaintext(dialtest.ServeGRPC(t, dialtest.Listen(t), nil)))
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

// That a password is held back likewise is tested with a client.
func TestConfiguredTLSSendsNothingInPlaintext(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	for name, answer := range dialtest.Peers(t, a) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard := &dialtest.Recording{Listener: dialtest.Listen(t)}
			address := dialtest.Serve(t, heard, answer)
			require.Error(t, connectOnce(t, overTLS(a, address)))
			for _, text := range heard.All() {
				if text != "" {
					assert.Equal(t, "\x16\x03", text[:2], "a TLS record")
				}
				assert.NotContains(t, text, "PRI * HTTP/2.0")
			}
		})
	}
}

// An endpoint that the cluster advertises can't turn TLS off.
func TestTLSHoldsForEndpointsThatAreSetLater(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	heard := &dialtest.Recording{Listener: dialtest.Listen(t)}
	later := dialtest.Serve(t, heard, dialtest.WaitThenClose)
	l := newDialer(overTLS(a, dialtest.ServeGRPC(t, dialtest.Listen(t), dialtest.ServerTLS(a.Issue()))))
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{l.endpoints[0].raw}, DialOptions: l.Options(), Logger: zap.NewNop()})
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	changed := l.Changed()
	c.ActiveConnection().Connect()
	<-changed
	require.NoError(t, troubles(l))
	changed = l.Changed()
	c.SetEndpoints("http://" + later)
	<-changed
	assert.ErrorIs(t, troubles(l), errs.ErrNotTLS)
	assert.Contains(t, heard.All()[0], "\x16\x03")
}

func TestTheHandshakerNamesItsProtocolAndClones(t *testing.T) {
	t.Parallel()
	secure := newHandshaker(newDialer(with(to("https://a:1"), TLSParams{ServerName: "etcd.example"}))).Clone()
	assert.Equal(t, "tls", secure.Info().SecurityProtocol)
	assert.Equal(t, "etcd.example", secure.Info().ServerName)
	assert.Equal(t, "insecure", newHandshaker(newDialer(plaintext("a:1"))).Clone().Info().SecurityProtocol)
}

func TestTheApplicationsOwnVerificationStillCounts(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	cfg := overTLS(a, dialtest.ServeGRPC(t, dialtest.Listen(t), dialtest.ServerTLS(a.Issue())))
	cfg.TLS.Config.VerifyConnection = func(tls.ConnectionState) error { return errScripted }
	require.ErrorIs(t, connectOnce(t, cfg), errScripted)
}
