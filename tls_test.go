package etcd

import (
	"bytes"
	"crypto/tls"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rotation is a client with its files, and a server that notes which client
// certificate it saw.
type rotation struct {
	t       *testing.T
	a       *authority
	dir     string
	address string
	log     *dialer
	logged  bytes.Buffer

	mu     sync.Mutex
	server tls.Certificate
	seen   string // the common name
}

func newRotation(t *testing.T) *rotation {
	r := &rotation{t: t, a: newAuthority(t), dir: t.TempDir()}
	r.server = r.a.issue()
	r.address = serveGRPC(t, listen(t), &tls.Config{
		ClientAuth: tls.RequireAnyClientCert,
		NextProtos: []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return &r.server, nil
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.seen = state.PeerCertificates[0].Subject.CommonName
			return nil
		},
	})
	cert, key := writePair(t, r.dir, r.a.issue())
	ca := writeFile(t, r.dir, "ca.pem", r.a.pem())
	r.log = resolvedLog(t, new(Config).WithEndpoints(r.address).WithTLS(cert, key, ca, false).
		WithLogger(slog.New(slog.NewTextHandler(&r.logged, nil))))
	return r
}

// connect returns the common name of the certificate that the client showed.
func (r *rotation) connect() (string, error) {
	err := connectOnceWith(r.t, r.log)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen, err
}

func (r *rotation) setServer(pair tls.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = pair
}

func TestARotatedClientCertificateIsUsedForTheNextConnection(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	before, err := r.connect()
	require.NoError(t, err)

	next := r.a.issue()
	writePair(t, r.dir, next)
	after, err := r.connect()
	require.NoError(t, err)
	assert.NotEqual(t, before, after)
	assert.Equal(t, next.Leaf.Subject.CommonName, after)
	assert.Empty(t, r.logged.String())
}

func TestARotatedAuthorityIsTrustedForTheNextConnection(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	_, err := r.connect()
	require.NoError(t, err)

	next := newAuthority(t)
	r.setServer(next.issue())
	_, err = r.connect()
	require.ErrorIs(t, err, ErrUnknownAuthority)

	writeFile(t, r.dir, "ca.pem", next.pem())
	_, err = r.connect()
	require.NoError(t, err)

	r.setServer(r.a.issue())
	_, err = r.connect()
	require.ErrorIs(t, err, ErrUnknownAuthority, "the old authority is trusted no longer")
}

func TestTheLastGoodFilesAreUsedAsASetWhileTheyCannotBeRead(t *testing.T) {
	t.Parallel()
	next := newAuthority(t)
	pair := next.issue()
	for name, spoil := range map[string]func(r *rotation){
		"certificate without its key": func(r *rotation) { writeFile(t, r.dir, "cert.pem", certificatePEM(pair.Leaf)) },
		"key without its certificate": func(r *rotation) { writeFile(t, r.dir, "key.pem", keyPEM(t, pair)) },
		"no key":                      func(r *rotation) { require.NoError(t, os.Remove(r.dir+"/key.pem")) },
		"authority half written": func(r *rotation) {
			writePair(t, r.dir, pair)
			writeFile(t, r.dir, "ca.pem", next.pem()[:200])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRotation(t)
			before, err := r.connect()
			require.NoError(t, err)
			for episode := 1; episode <= 2; episode++ {
				spoil(r)
				for range 3 {
					during, err := r.connect()
					require.NoError(t, err)
					assert.Equal(t, before, during)
				}
				assert.Equal(t, episode, strings.Count(r.logged.String(), "level=WARN"), "one warning per episode")

				good := r.a.issue()
				writePair(t, r.dir, good)
				writeFile(t, r.dir, "ca.pem", r.a.pem())
				before, err = r.connect()
				require.NoError(t, err)
				assert.Equal(t, good.Leaf.Subject.CommonName, before)
				assert.Equal(t, episode, strings.Count(r.logged.String(), "can be read again"))
			}
			assert.NotContains(t, r.logged.String(), "PRIVATE")
		})
	}
}

func TestFilesThatWereNeverGoodAreTheCause(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cfg, err := new(Config).WithEndpoints(serveGRPC(t, listen(t), serverTLS(a.issue()))).
		WithTLS("", "", a.file(), false).WithLogger(slog.New(slog.DiscardHandler)).resolved()
	require.NoError(t, err)
	require.NoError(t, os.Rename(cfg.CAFile, cfg.CAFile+".away"))
	l := newDialer(cfg.dialing())
	require.ErrorIs(t, connectOnceWith(t, l), fs.ErrNotExist)
	require.NoError(t, os.Rename(cfg.CAFile+".away", cfg.CAFile))
	require.NoError(t, connectOnceWith(t, l))
}

func TestTLSIsAtLeastVersion12(t *testing.T) {
	t.Parallel()
	for _, own := range []*tls.Config{nil, {}, {MinVersion: tls.VersionTLS10}, {MinVersion: tls.VersionTLS13}} {
		r, err := new(Config).WithTLSConfig(own).resolved()
		require.NoError(t, err)
		cfg, err := newTLSSource(*r.dialing().TLS).config()
		require.NoError(t, err)
		if own == nil || own.MinVersion < tls.VersionTLS12 {
			assert.Equal(t, uint16(tls.VersionTLS12), cfg.MinVersion)
		} else {
			assert.Equal(t, own.MinVersion, cfg.MinVersion)
		}
	}
	a := newAuthority(t)
	old := serverTLS(a.issue())
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	require.Error(t, connectOnce(t, overTLS(a, serveGRPC(t, listen(t), old))))
}

func TestWithoutACAFileTheSystemsAuthoritiesCount(t *testing.T) {
	t.Parallel()
	r, err := new(Config).WithTLS("", "", "", false).resolved()
	require.NoError(t, err)
	cfg, err := newTLSSource(*r.dialing().TLS).config()
	require.NoError(t, err)
	assert.Nil(t, cfg.RootCAs, "which is crypto/tls for the system's")
	assert.False(t, cfg.InsecureSkipVerify)
}
