package integration

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/etcdtest"
)

// trusting returns a configuration that trusts s and shows its client
// certificate.
func trusting(s *etcdtest.Server) *etcd.Config {
	return etcd.DefaultConfig().WithEndpoints(s.Endpoints()...).
		WithTLS(s.ClientCertFile(), s.ClientKeyFile(), s.CAFile(), false)
}

// authority returns an authority that no server knows.
func authority(t *testing.T) *etcdtest.CA {
	t.Helper()
	ca, err := etcdtest.NewCA(t.TempDir())
	require.NoError(t, err)
	return ca
}

func schemed(s *etcdtest.Server, scheme string) string {
	_, addr, found := strings.Cut(s.Endpoint(), "://")
	if !found {
		addr = s.Endpoint()
	}
	return scheme + "://" + addr
}

// Each way in which TLS can be wrong has its own error, which comes long before
// DialTimeout, and nothing falls back to plaintext.
func TestWrongTLSIsNamedAtOnce(t *testing.T) {
	t.Parallel()
	ca := authority(t)
	strangerCert, strangerKey, err := ca.Issue(etcdtest.ForClient())
	require.NoError(t, err)
	plain := server(t)
	secure := server(t, etcdtest.WithTLS())
	mutual := server(t, etcdtest.WithClientCertRequired())
	expired := server(t, etcdtest.WithServerCertificate(etcdtest.NotAfter(time.Now().Add(-time.Hour))))
	early := server(t, etcdtest.WithServerCertificate(etcdtest.NotBefore(time.Now().Add(time.Hour))))
	renamed := server(t, etcdtest.WithServerCertificate(etcdtest.DNSNames("other.example")))

	for name, tc := range map[string]struct {
		cfg  *etcd.Config
		want error
	}{
		"unknown authority":              {trusting(secure).WithTLS("", "", ca.CertFile(), false), etcd.ErrUnknownAuthority},
		"system's authorities":           {etcd.DefaultConfig().WithEndpoints(secure.Endpoint()), etcd.ErrUnknownAuthority},
		"expired":                        {trusting(expired), etcd.ErrCertificateExpired},
		"not yet valid":                  {trusting(early), etcd.ErrCertificateExpired},
		"wrong name":                     {trusting(renamed), etcd.ErrWrongHostName},
		"wrong server name":              {trusting(secure).WithServerName("other.example"), etcd.ErrWrongHostName},
		"no client certificate":          {trusting(mutual).WithTLS("", "", mutual.CAFile(), false), etcd.ErrClientCertificate},
		"client certificate of another":  {trusting(mutual).WithTLS(strangerCert, strangerKey, mutual.CAFile(), false), etcd.ErrClientCertificate},
		"plaintext to TLS":               {etcd.DefaultConfig().WithEndpoints(schemed(secure, "http")), etcd.ErrTLSRequired},
		"plaintext with a user to TLS":   {etcd.DefaultConfig().WithEndpoints(schemed(secure, "http")).WithAuth("root", "the-password"), etcd.ErrTLSRequired},
		"TLS to plaintext":               {etcd.DefaultConfig().WithEndpoints(schemed(plain, "https")), etcd.ErrNotTLS},
		"TLS with a user to plaintext":   {etcd.DefaultConfig().WithEndpoints(schemed(plain, "https")).WithAuth("root", "the-password"), etcd.ErrNotTLS},
		"one bad endpoint after another": {trusting(expired).WithEndpoints(expired.Endpoint(), schemed(plain, "https")), etcd.ErrNotTLS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			c, err := etcd.NewClient(tc.cfg.WithDialTimeout(patience))
			require.Nil(t, c)
			require.ErrorIs(t, err, tc.want)
			require.ErrorIs(t, err, etcd.ErrUnavailable)
			require.ErrorContains(t, err, tc.cfg.Endpoints[0])
			require.Less(t, time.Since(began), patience/2)
			require.NotContains(t, err.Error(), "the-password")
			var e *etcd.EndpointError
			require.ErrorAs(t, err, &e)
		})
	}
}

func TestRightTLSConnects(t *testing.T) {
	t.Parallel()
	mutual := server(t, etcdtest.WithClientCertRequired())
	renamed := server(t, etcdtest.WithServerCertificate(etcdtest.DNSNames("other.example")))
	secure := server(t, etcdtest.WithTLS())
	_, bare, _ := strings.Cut(secure.Endpoint(), "://")
	for name, cfg := range map[string]*etcd.Config{
		"mutual, by files":          trusting(mutual),
		"mutual, by a tls.Config":   etcd.DefaultConfig().WithEndpoints(mutual.Endpoint()).WithTLSConfig(mutual.TLSConfig()),
		"server name of an address": trusting(renamed).WithServerName("other.example"),
		"endpoint without a scheme": trusting(secure).WithEndpoints(bare),
		"required":                  trusting(secure).WithRequireTLS(),
		"unverified":                etcd.DefaultConfig().WithEndpoints(secure.Endpoint()).WithTLS("", "", "", true),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, client(t, cfg).Put(t.Context(), prefix(t), nil))
		})
	}
}

// The server name of a tls.Config counts as well: clientv3 ignores it.
func TestServerNameOfATLSConfigIsHonoured(t *testing.T) {
	t.Parallel()
	secure := server(t, etcdtest.WithTLS())
	cfg := secure.TLSConfig()
	cfg.ServerName = "other.example"
	_, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints(secure.Endpoint()).WithTLSConfig(cfg).WithDialTimeout(20 * time.Second))
	require.ErrorIs(t, err, etcd.ErrWrongHostName)
}

func TestImpossibleTLSSettingsAreRefusedBeforeConnecting(t *testing.T) {
	t.Parallel()
	secure := server(t, etcdtest.WithTLS())
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for name, cfg := range map[string]*etcd.Config{
		"empty CA bundle":           trusting(secure).WithTLS("", "", empty, false),
		"missing CA file":           trusting(secure).WithTLS("", "", empty+".missing", false),
		"certificate without a key": trusting(secure).WithTLS(secure.ClientCertFile(), "", secure.CAFile(), false),
		"key of another":            trusting(secure).WithTLS(secure.ClientCertFile(), secure.CAFile(), secure.CAFile(), false),
		"http with TLS settings":    trusting(secure).WithEndpoints(schemed(secure, "http")),
		"http with TLS required":    etcd.DefaultConfig().WithEndpoints(schemed(secure, "http")).WithRequireTLS(),
		"mixed":                     trusting(secure).WithEndpoints(secure.Endpoint(), schemed(secure, "http")),
	} {
		_, err := etcd.NewClient(cfg)
		require.ErrorIs(t, err, etcd.ErrInvalidConfig, name)
	}
}

// Client and server get certificates of a new authority, one after the other,
// while the client lives on.
func TestRotatedCertificatesAreUsedAtTheNextConnection(t *testing.T) {
	t.Parallel()
	srv := server(t, etcdtest.WithTLS())
	proxy := etcdtest.NewProxy(t, srv.Endpoint())
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	copyFile(t, bundle, srv.CAFile())
	c := client(t, etcd.DefaultConfig().WithEndpoints(proxy.Endpoint()).WithTLS("", "", bundle, false).WithTimeout(busyTimeout))
	require.NoError(t, c.Put(t.Context(), "key", nil))

	next := authority(t)
	require.NoError(t, srv.ReplaceServerCertificate(next))
	require.NoError(t, second(c.List(t.Context(), "key")), "the connection lives on")
	proxy.Cut()
	// The reason is told while the file is old.
	_ = failsWith(t, etcd.ErrUnknownAuthority, func() error { return second(c.Get(within(t, time.Second), "key")) })

	copyFile(t, bundle, next.CertFile())
	require.NoError(t, second(c.Get(t.Context(), "key")))
}

// copyFile replaces the file to as a rotation does, at once.
func copyFile(t *testing.T, to, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to+".next", data, 0o600))
	require.NoError(t, os.Rename(to+".next", to))
}

// The names below lead nowhere: no connection is made to another host.
func TestPlaintextCredentialsAreLoggedOnceAndNeverShown(t *testing.T) {
	t.Parallel()
	errNoNetwork := errors.New("no network")
	nowhere := func(context.Context, string, string) (net.Conn, error) { return nil, errNoNetwork }
	for name, tc := range map[string]struct {
		cfg    *etcd.Config
		warned bool
	}{
		"password to another host": {etcd.DefaultConfig().WithEndpoints("etcd.example:2379").WithAuth("root", "the-password"), true},
		"token to another host":    {etcd.DefaultConfig().WithEndpoints("http://192.0.2.1:2379").WithToken("the-password"), true},
		"password to this host":    {etcd.DefaultConfig().WithEndpoints("127.0.0.1:2379", "[::1]:2379", "localhost:2379").WithAuth("root", "the-password"), false},
		"password over TLS":        {etcd.DefaultConfig().WithEndpoints("https://etcd.example:2379").WithAuth("root", "the-password"), false},
		"no password":              {etcd.DefaultConfig().WithEndpoints("etcd.example:2379"), false},
	} {
		var log lockedBuffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c := client(t, tc.cfg.WithLazyConnect().WithDialer(nowhere).WithLogger(logger))
		err := failsWith(t, errNoNetwork, func() error { return c.Put(within(t, 100*time.Millisecond), "key", nil) })
		require.NotContains(t, err.Error()+c.String(), "the-password", name)
		if tc.warned {
			require.Equal(t, 1, strings.Count(log.String(), "plaintext"), name)
			require.Contains(t, log.String(), "level=WARN", name)
		} else {
			require.Empty(t, log.String(), name)
		}
		require.NotContains(t, log.String(), "the-password", name)
	}
	_, err := etcd.NewClient(etcd.DefaultConfig().WithEndpoints("etcd.example:2379").WithAuth("root", "the-password").WithRequireTLS().WithDialer(nowhere))
	require.ErrorIs(t, err, etcd.ErrInvalidConfig)
	require.NotContains(t, err.Error(), "the-password")
}
