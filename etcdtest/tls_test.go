package etcdtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd/etcdtest"
)

// shake makes a TLS connection to s, reads what the server thinks of it, and
// returns the server's certificate.
func shake(t *testing.T, s *etcdtest.Server, cfg *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	cfg.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.Endpoint(), "https://"), cfg)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	// The server's settings come first, or the alert that it sends after the
	// client's side of the handshake is over.
	if _, err := io.ReadFull(conn, make([]byte, 9)); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

func TestTLSFilesMakeAClient(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]etcdtest.Option{
		"TLS":        etcdtest.WithTLS(),
		"mutual TLS": etcdtest.WithClientCertRequired(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := etcdtest.New(t, opt)
			require.Regexp(t, `^https://127\.0\.0\.1:\d+$`, s.Endpoint())
			pem, err := os.ReadFile(s.CAFile())
			require.NoError(t, err)
			pool := x509.NewCertPool()
			require.True(t, pool.AppendCertsFromPEM(pem))
			cert, err := tls.LoadX509KeyPair(s.ClientCertFile(), s.ClientKeyFile())
			require.NoError(t, err)

			c := connect(t, clientv3.Config{Endpoints: s.Endpoints(), TLS: &tls.Config{
				RootCAs: pool, Certificates: []tls.Certificate{cert},
			}})
			put(t, c, "key", "value")
			require.NoError(t, s.Restart())
			require.Equal(t, "value", get(t, clientOf(t, s), "key"), "by TLSConfig")
		})
	}
}

func TestServerCertificateIsForTheLoopbackNames(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t, etcdtest.WithTLS())
	for _, name := range []string{"127.0.0.1", "::1", "localhost"} {
		cfg := s.TLSConfig()
		cfg.ServerName = name
		_, err := shake(t, s, cfg)
		require.NoError(t, err, name)
	}
}

func TestEachWrongServerCertificateFailsForItsReason(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tc := range []struct {
		name  string
		opts  []etcdtest.CertOption
		check func(*testing.T, error)
	}{
		{"wrong name", []etcdtest.CertOption{etcdtest.DNSNames("other.example")}, func(t *testing.T, err error) {
			require.ErrorAs(t, err, &x509.HostnameError{})
		}},
		{"wrong address", []etcdtest.CertOption{etcdtest.IPs([]byte{192, 0, 2, 1})}, func(t *testing.T, err error) {
			require.ErrorAs(t, err, &x509.HostnameError{})
		}},
		{"expired", []etcdtest.CertOption{etcdtest.NotAfter(now.Add(-time.Minute))}, isInvalid(x509.Expired)},
		{"long expired", []etcdtest.CertOption{etcdtest.NotAfter(now.AddDate(-1, 0, 0))}, isInvalid(x509.Expired)},
		{"not yet valid", []etcdtest.CertOption{etcdtest.NotBefore(now.AddDate(1, 0, 0))}, isInvalid(x509.Expired)},
		{"for clients", []etcdtest.CertOption{etcdtest.ForClient(), etcdtest.DNSNames("localhost"), etcdtest.IPs([]byte{127, 0, 0, 1})}, isInvalid(x509.IncompatibleUsage)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := etcdtest.New(t, etcdtest.WithServerCertificate(tc.opts...))
			_, err := shake(t, s, s.TLSConfig())
			require.Error(t, err)
			tc.check(t, err)
		})
	}
}

func isInvalid(reason x509.InvalidReason) func(*testing.T, error) {
	return func(t *testing.T, err error) {
		t.Helper()
		var invalid x509.CertificateInvalidError
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, reason, invalid.Reason)
	}
}

func TestStrangersAreUnknownToEachOther(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t, etcdtest.WithClientCertRequired())
	other, err := etcdtest.NewCA(t.TempDir())
	require.NoError(t, err)

	cfg := s.TLSConfig()
	cfg.RootCAs = other.Pool()
	_, err = shake(t, s, cfg)
	require.ErrorAs(t, err, &x509.UnknownAuthorityError{})
	require.NotContains(t, err.Error(), "possibly because")

	cfg = s.TLSConfig()
	cfg.Certificates = nil
	_, err = shake(t, s, cfg)
	require.ErrorContains(t, err, "certificate required")

	cfg = s.TLSConfig()
	cfg.Certificates = []tls.Certificate{issue(t, other, etcdtest.ForClient())}
	_, err = shake(t, s, cfg)
	require.Error(t, err)

	cfg = s.TLSConfig()
	cfg.Certificates = []tls.Certificate{issue(t, s.CA(), etcdtest.ForClient())}
	_, err = shake(t, s, cfg)
	require.NoError(t, err)
}

func issue(t *testing.T, ca *etcdtest.CA, opts ...etcdtest.CertOption) tls.Certificate {
	t.Helper()
	certFile, keyFile, err := ca.Issue(opts...)
	require.NoError(t, err)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	return cert
}

func TestServersOfOneAuthorityAreTrustedTogether(t *testing.T) {
	t.Parallel()
	ca, err := etcdtest.NewCA(t.TempDir())
	require.NoError(t, err)
	a := etcdtest.New(t, etcdtest.WithCA(ca))
	b := etcdtest.New(t, etcdtest.WithCA(ca), etcdtest.WithClientCertRequired())
	require.Equal(t, ca.CertFile(), a.CAFile())
	_, err = shake(t, b, a.TLSConfig())
	require.NoError(t, err)
}

func TestReplacedCertificateShowsAtTheNextHandshake(t *testing.T) {
	t.Parallel()
	s := etcdtest.New(t, etcdtest.WithTLS())
	first, err := shake(t, s, s.TLSConfig())
	require.NoError(t, err)

	require.NoError(t, s.ReplaceServerCertificate(s.CA()))
	renewed, err := shake(t, s, s.TLSConfig())
	require.NoError(t, err)
	require.NotEqual(t, first.SerialNumber, renewed.SerialNumber)

	other, err := etcdtest.NewCA(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, s.ReplaceServerCertificate(other))
	_, err = shake(t, s, s.TLSConfig())
	require.ErrorAs(t, err, &x509.UnknownAuthorityError{})
	cfg := s.TLSConfig()
	cfg.RootCAs = other.Pool()
	_, err = shake(t, s, cfg)
	require.NoError(t, err)

	require.ErrorContains(t, etcdtest.New(t).ReplaceServerCertificate(other), "no TLS")
}
