package etcdtest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// identity is the TLS side of a server: who issues its certificates, and where they lie.
// It is nil without TLS.
type identity struct {
	ca                    *CA
	serverCert, serverKey string
	clientCert, clientKey string
	requireClient         bool
	client                tls.Certificate
}

// WithTLS makes the server speak only TLS, with a certificate for 127.0.0.1, ::1 and
// localhost from an authority of its own, see [Server.CAFile].
func WithTLS() Option {
	return func(s *settings) { s.tls = true }
}

// WithClientCertRequired makes the server refuse clients without a certificate from its
// authority, see [Server.ClientCertFile]; it includes [WithTLS]. With [WithAuth], a
// client that sends no user name is logged in as the user that its certificate's common
// name says.
func WithClientCertRequired() Option {
	return func(s *settings) { s.tls, s.requireClientCert = true, true }
}

// WithServerCertificate sets what the server's certificate says, to make one that clients
// must refuse: for a wrong name, expired, not yet valid. It includes [WithTLS].
func WithServerCertificate(opts ...CertOption) Option {
	return func(s *settings) { s.tls, s.serverCert = true, opts }
}

// WithCA makes ca issue the server's certificates instead of an authority of its own, for
// several servers that one client trusts. It includes [WithTLS].
func WithCA(ca *CA) Option {
	return func(s *settings) {
		if ca == nil {
			s.reject("WithCA", "the authority is nil")
		}
		s.tls, s.ca = true, ca
	}
}

// newIdentity issues the certificates of a server, into dir.
func newIdentity(set *settings, dir string) (*identity, error) {
	if !set.tls {
		return nil, nil
	}
	id := &identity{
		ca:            set.ca,
		serverCert:    filepath.Join(dir, "server.pem"),
		serverKey:     filepath.Join(dir, "server-key.pem"),
		clientCert:    filepath.Join(dir, "client.pem"),
		clientKey:     filepath.Join(dir, "client-key.pem"),
		requireClient: set.requireClientCert,
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("etcdtest: %w", err)
	}
	var err error
	if id.ca == nil {
		if id.ca, err = NewCA(dir); err != nil {
			return nil, err
		}
	}
	if err := id.ca.issue(id.serverCert, id.serverKey, set.serverCert); err != nil {
		return nil, err
	}
	if err := id.ca.issue(id.clientCert, id.clientKey, []CertOption{ForClient()}); err != nil {
		return nil, err
	}
	if id.client, err = tls.LoadX509KeyPair(id.clientCert, id.clientKey); err != nil {
		return nil, fmt.Errorf("etcdtest: %w", err)
	}
	return id, nil
}

// serverInfo returns the identity in etcd's terms.
func (id *identity) serverInfo() transport.TLSInfo {
	info := transport.TLSInfo{CertFile: id.serverCert, KeyFile: id.serverKey}
	if id.requireClient {
		// A trusted CA alone already makes etcd require client certificates.
		info.TrustedCAFile, info.ClientCertAuth = id.ca.CertFile(), true
	}
	return info
}

// flags returns the identity as flags of an etcd program.
func (id *identity) flags() []string {
	flags := []string{"--cert-file=" + id.serverCert, "--key-file=" + id.serverKey}
	if id.requireClient {
		flags = append(flags, "--trusted-ca-file="+id.ca.CertFile(), "--client-cert-auth")
	}
	return flags
}

// serverConfig returns the identity for a gRPC server in front of a member. Like etcd, it
// reads the certificate again for each handshake.
func (id *identity) serverConfig() *tls.Config {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(id.serverCert, id.serverKey)
			return &cert, err
		},
	}
	if id.requireClient {
		cfg.ClientCAs, cfg.ClientAuth = id.ca.Pool(), tls.RequireAndVerifyClientCert
	}
	return cfg
}

// CA returns the authority that issued the server's certificates, to issue further ones;
// nil without TLS.
func (s *Server) CA() *CA {
	if s.identity == nil {
		return nil
	}
	return s.identity.ca
}

// CAFile returns the path of the certificate that clients must trust, in PEM; "" without
// TLS.
func (s *Server) CAFile() string {
	if s.identity == nil {
		return ""
	}
	return s.identity.ca.CertFile()
}

// ClientCertFile returns the path of a client certificate that the server
// accepts, in PEM; "" without TLS. Its common name is "etcdtest".
func (s *Server) ClientCertFile() string {
	if s.identity == nil {
		return ""
	}
	return s.identity.clientCert
}

// ClientKeyFile returns the path of the key of [Server.ClientCertFile]; ""
// without TLS.
func (s *Server) ClientKeyFile() string {
	if s.identity == nil {
		return ""
	}
	return s.identity.clientKey
}

// TLSConfig returns a new configuration for clients that trusts the server's
// authority and holds the client certificate; nil without TLS.
func (s *Server) TLSConfig() *tls.Config {
	if s.identity == nil {
		return nil
	}
	return &tls.Config{
		RootCAs:      s.identity.ca.Pool(),
		Certificates: []tls.Certificate{s.identity.client},
		MinVersion:   tls.VersionTLS12,
	}
}

// ReplaceServerCertificate makes ca issue a new certificate for the server, which shows
// it from the next handshake on: a renewal, or with a second authority the rotation of
// the CA. [Server.CAFile] doesn't change. Existing connections live on; a handshake at
// the moment of the change may fail. It fails without TLS.
func (s *Server) ReplaceServerCertificate(ca *CA, opts ...CertOption) error {
	if s.identity == nil {
		return errors.New("etcdtest: replace certificate: the server has no TLS")
	}
	certFile, keyFile, err := ca.Issue(slices.Clone(opts)...)
	if err != nil {
		return err
	}
	if err := errors.Join(
		replaceFile(keyFile, s.identity.serverKey, 0o600),
		replaceFile(certFile, s.identity.serverCert, 0o644),
	); err != nil {
		return fmt.Errorf("etcdtest: replace certificate: %w", err)
	}
	return nil
}

// replaceFile gives dst the content of src in one step. The two may lie on
// different file systems, so src is copied first.
func replaceFile(src, dst string, mode os.FileMode) error {
	content, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	next := dst + ".next"
	if err := os.WriteFile(next, content, mode); err != nil {
		return err
	}
	return os.Rename(next, dst)
}
