package dial

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/secret"
)

// TLSParams say how to speak TLS.
type TLSParams struct {
	CertFile, KeyFile, CAFile string      // empty for none
	Config                    *tls.Config // what doesn't come from files; may be nil
	ServerName                string      // instead of the one in Config
	InsecureSkipVerify        bool        // even if not set in Config
	Logger                    *slog.Logger
}

// tlsSource provides the TLS settings of the next handshake. Handshakes are rare, so it
// reads the files for each: nothing has to watch the files, and a handshake uses what is
// on the disk.
type tlsSource struct {
	certFile, keyFile, caFile string

	base *tls.Config // what doesn't come from files; never changed
	log  *slog.Logger

	mu      sync.Mutex
	last    *tls.Config // made from the last files that could be read
	failing bool        // the files can't be read now, which has been logged
}

// newTLSSource reads the files, to have something to fall back on from the start.
func newTLSSource(p TLSParams) *tlsSource {
	base := p.Config.Clone()
	if base == nil {
		base = &tls.Config{}
	}
	base.MinVersion = max(base.MinVersion, tls.VersionTLS12)
	base.InsecureSkipVerify = base.InsecureSkipVerify || p.InsecureSkipVerify
	if p.ServerName != "" {
		base.ServerName = p.ServerName
	}
	s := &tlsSource{certFile: p.CertFile, keyFile: p.KeyFile, caFile: p.CAFile, base: base, log: p.Logger}
	// A failure was logged, and each handshake fails with it until it is repaired.
	_, _ = s.config()
	return s
}

// serverName returns the name that every server's certificate must be valid for, or an
// empty string if that is each endpoint's host.
func (s *tlsSource) serverName() string { return s.base.ServerName }

// config returns the settings of a handshake, which the caller may change. While the
// files can't be read, as in the middle of a rotation, it returns the last good settings
// as a set: a new key is never paired with an old certificate. It fails only if there
// never were good ones.
func (s *tlsSource) config() (*tls.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.read()
	if err != nil {
		s.note(err)
		if s.last == nil {
			return nil, err
		}
		return s.last.Clone(), nil
	}
	if s.failing {
		s.log.Info("etcd: TLS files can be read again")
	}
	s.failing, s.last = false, next
	return next.Clone(), nil
}

// note logs only the first failure in a row, since connecting is tried again and again.
func (s *tlsSource) note(err error) {
	if !s.failing {
		s.log.Warn("etcd: TLS files can't be read; the last good ones stay in use", slog.Any("error", err))
	}
	s.failing = true
}

func (s *tlsSource) read() (*tls.Config, error) {
	cfg := s.base.Clone()
	if s.certFile != "" {
		pair, err := ReadKeyPair(s.certFile, s.keyFile)
		if err != nil {
			return nil, err
		}
		// Unlike Certificates, this sends the certificate even if the server does not
		// name its authority. So the server says what is wrong.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	if s.caFile != "" {
		pool, err := ReadAuthorities(s.caFile)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = pool
	}
	return cfg, nil
}

// ReadKeyPair reads a certificate with its private key. Its errors name the files, both
// if neither can be read.
func ReadKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	var unreadable []error
	cert, err := secret.ReadFile("CertFile", certFile)
	if err != nil {
		unreadable = append(unreadable, err)
	}
	key, err := secret.ReadFile("KeyFile", keyFile)
	if err != nil {
		unreadable = append(unreadable, err)
	}
	if err := errs.Join(unreadable); err != nil {
		return tls.Certificate{}, err
	}
	if err := checkChain(cert); err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", certFile, err)
	}
	if isEncryptedKey(key) {
		return tls.Certificate{}, fmt.Errorf("%s: %w", keyFile, errEncryptedKey)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	return pair, nil
}

// ReadAuthorities reads a bundle of authorities' certificates. Its errors name the file.
// A bundle is used as a whole or not at all: a part of it would pass for all.
func ReadAuthorities(file string) (*x509.CertPool, error) {
	bundle, err := secret.ReadFile("CAFile", file)
	if err != nil {
		return nil, err
	}
	pool, err := authorities(bundle)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return pool, nil
}
