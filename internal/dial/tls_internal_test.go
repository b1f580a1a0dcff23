package dial

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

	"github.com/blueprint-go/etcd/internal/dial/dialtest"
	"github.com/blueprint-go/etcd/internal/errs"
)

// rotation is a client with its files, and a server that notes which client
// certificate it saw.
type rotation struct {
	t       *testing.T
	a       *dialtest.Authority
	dir     string
	address string
	log     *Dialer
	logged  bytes.Buffer

	mu     sync.Mutex
	server tls.Certificate
	seen   string // the common name
}

func newRotation(t *testing.T) *rotation {
	r := &rotation{t: t, a: dialtest.NewAuthority(t), dir: t.TempDir()}
	r.server = r.a.Issue()
	r.address = dialtest.ServeGRPC(t, dialtest.Listen(t), &tls.Config{
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
	cert, key := dialtest.WritePair(t, r.dir, r.a.Issue())
	ca := dialtest.WriteFile(t, r.dir, "ca.pem", r.a.PEM())
	r.log = newDialer(with(to(r.address), TLSParams{
		CertFile: cert, KeyFile: key, CAFile: ca, Logger: slog.New(slog.NewTextHandler(&r.logged, nil)),
	}))
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

func TestNextConnectionUsesARotatedClientCertificate(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	before, err := r.connect()
	require.NoError(t, err)

	next := r.a.Issue()
	dialtest.WritePair(t, r.dir, next)
	after, err := r.connect()
	require.NoError(t, err)
	assert.NotEqual(t, before, after)
	assert.Equal(t, next.Leaf.Subject.CommonName, after)
	assert.Empty(t, r.logged.String())
}

func TestNextConnectionTrustsARotatedAuthority(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	_, err := r.connect()
	require.NoError(t, err)

	next := dialtest.NewAuthority(t)
	r.setServer(next.Issue())
	_, err = r.connect()
	require.ErrorIs(t, err, errs.ErrUnknownAuthority)

	dialtest.WriteFile(t, r.dir, "ca.pem", next.PEM())
	_, err = r.connect()
	require.NoError(t, err)

	r.setServer(r.a.Issue())
	_, err = r.connect()
	require.ErrorIs(t, err, errs.ErrUnknownAuthority, "the old authority is trusted no longer")
}

func TestUnreadableFilesLeaveLastGoodSetInUse(t *testing.T) {
	t.Parallel()
	next := dialtest.NewAuthority(t)
	pair := next.Issue()
	for name, spoil := range map[string]func(r *rotation){
		"certificate without its key": func(r *rotation) { dialtest.WriteFile(t, r.dir, "cert.pem", dialtest.CertificatePEM(pair.Leaf)) },
		"key without its certificate": func(r *rotation) { dialtest.WriteFile(t, r.dir, "key.pem", dialtest.KeyPEM(t, pair)) },
		"no key":                      func(r *rotation) { require.NoError(t, os.Remove(r.dir+"/key.pem")) },
		"authority half written": func(r *rotation) {
			dialtest.WritePair(t, r.dir, pair)
			dialtest.WriteFile(t, r.dir, "ca.pem", next.PEM()[:200])
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

				good := r.a.Issue()
				dialtest.WritePair(t, r.dir, good)
				dialtest.WriteFile(t, r.dir, "ca.pem", r.a.PEM())
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
	a := dialtest.NewAuthority(t)
	file := a.File()
	p := with(to(dialtest.ServeGRPC(t, dialtest.Listen(t), dialtest.ServerTLS(a.Issue()))),
		TLSParams{CAFile: file, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, os.Rename(file, file+".away"))
	l := newDialer(p)
	require.ErrorIs(t, connectOnceWith(t, l), fs.ErrNotExist)
	require.NoError(t, os.Rename(file+".away", file))
	require.NoError(t, connectOnceWith(t, l))
}

func TestTLSIsAtLeastVersion12(t *testing.T) {
	t.Parallel()
	for _, own := range []*tls.Config{nil, {}, {MinVersion: tls.VersionTLS10}, {MinVersion: tls.VersionTLS13}} {
		cfg, err := newTLSSource(TLSParams{Config: own}).config()
		require.NoError(t, err)
		if own == nil || own.MinVersion < tls.VersionTLS12 {
			assert.Equal(t, uint16(tls.VersionTLS12), cfg.MinVersion)
		} else {
			assert.Equal(t, own.MinVersion, cfg.MinVersion)
		}
	}
	a := dialtest.NewAuthority(t)
	old := dialtest.ServerTLS(a.Issue())
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	require.Error(t, connectOnce(t, overTLS(a, dialtest.ServeGRPC(t, dialtest.Listen(t), old))))
}

func TestWithoutACAFileTheSystemsAuthoritiesCount(t *testing.T) {
	t.Parallel()
	cfg, err := newTLSSource(TLSParams{}).config()
	require.NoError(t, err)
	assert.Nil(t, cfg.RootCAs, "which is crypto/tls for the system's")
	assert.False(t, cfg.InsecureSkipVerify)
}

func TestABundleOfAuthoritiesIsReadWhole(t *testing.T) {
	t.Parallel()
	a, b := dialtest.NewAuthority(t), dialtest.NewAuthority(t)
	file := dialtest.WriteFile(t, t.TempDir(), "ca.pem", append(append([]byte("# first\n"), a.PEM()...), b.PEM()...))
	pool, err := ReadAuthorities(file)
	require.NoError(t, err)
	want := a.Pool()
	require.True(t, want.AppendCertsFromPEM(b.PEM()))
	assert.True(t, want.Equal(pool))
	require.NoError(t, os.Remove(file))
}
