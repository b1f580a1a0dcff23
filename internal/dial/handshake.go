package dial

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/blueprint-go/etcd/internal/errs"
)

// handshaker turns what dial opened into a connection, over TLS or in plaintext: always
// the same of the two, so that nothing that a server does, and no endpoint that a cluster
// advertises, turns TLS off. It implements [credentials.TransportCredentials].
type handshaker struct {
	credentials.TransportCredentials // for what isn't overridden here
	dialer                           *Dialer
}

func newHandshaker(d *Dialer) *handshaker {
	if d.tls == nil {
		return &handshaker{insecure.NewCredentials(), d}
	}
	return &handshaker{credentials.NewTLS(&tls.Config{
		ServerName: d.tls.serverName(),
		MinVersion: tls.VersionTLS12,
	}), d}
}

// Clone implements [credentials.TransportCredentials].
func (h *handshaker) Clone() credentials.TransportCredentials {
	return &handshaker{h.TransportCredentials.Clone(), h.dialer}
}

// ClientHandshake implements [credentials.TransportCredentials].
func (h *handshaker) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, t := h.dialer.untag(conn)
	u := &unprovenConn{ctx: ctx, dialer: h.dialer, target: t, name: strings.Join(h.dialer.names(t), " or ")}
	if h.dialer.tls == nil {
		u.Conn = conn
		h.dialer.wait(t, waitingSettings)
		_, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, conn)
		return u, info, err
	}
	h.dialer.wait(t, waitingHandshake)
	secure, info, err := h.secure(ctx, authority, conn, &u.certificateAsked)
	if err != nil {
		err = h.cause(ctx, t, err, u.certificateAsked.Load())
		h.dialer.addresses.distrust(conn.RemoteAddr())
		h.dialer.noteFailure(ctx, t, err)
		return nil, nil, err
	}
	u.Conn = secure
	h.dialer.wait(t, waitingSettings)
	return u, info, nil
}

// secure does the TLS handshake, with the files as they are now.
func (h *handshaker) secure(ctx context.Context, authority string, conn net.Conn, certificateAsked *atomic.Bool) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := h.dialer.tls.config()
	if err != nil {
		return nil, nil, err
	}
	noteCertificateRequest(cfg, certificateAsked)
	requireHTTP2(cfg)
	// gRPC uses the authority and ignores the ServerName of the settings.
	return credentials.NewTLS(cfg).ClientHandshake(ctx, cmp.Or(cfg.ServerName, authority), conn)
}

// cause finds out why the TLS handshake failed.
func (h *handshaker) cause(ctx context.Context, t target, err error, certificateAsked bool) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return withTimeout(waitingHandshake, err)
	case closedByPeer(err):
		err = fmt.Errorf("connection closed during the TLS handshake: %w", err)
		if h.dialer.waitsForClient(ctx, t) {
			return errs.WithKind(errs.ErrNotTLS, err)
		}
		return err
	}
	err = tlsCause(err, certificateAsked)
	if t.network == "unix" && h.dialer.tls.serverName() == "" && errors.Is(err, errs.ErrWrongHostName) {
		return fmt.Errorf("%w (a socket's server is checked for the last part of the path; ServerName says another name)", err)
	}
	return err
}

// noteCertificateRequest makes cfg set asked when the server asks for a certificate. The
// answer stays the same.
func noteCertificateRequest(cfg *tls.Config, asked *atomic.Bool) {
	answer := cfg.GetClientCertificate
	if answer == nil {
		certs := cfg.Certificates
		answer = func(req *tls.CertificateRequestInfo) (*tls.Certificate, error) { //nolint:unparam // GetClientCertificate has this type
			for i := range certs {
				if req.SupportsCertificate(&certs[i]) == nil {
					return &certs[i], nil
				}
			}
			return new(tls.Certificate), nil
		}
	}
	cfg.GetClientCertificate = func(req *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked.Store(true)
		return answer(req)
	}
}

// requireHTTP2 makes a handshake under cfg fail where gRPC would fail, but with a
// recognizable error.
func requireHTTP2(cfg *tls.Config) {
	verify := cfg.VerifyConnection
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if verify != nil {
			if err := verify(state); err != nil {
				return err
			}
		}
		if state.NegotiatedProtocol != "h2" {
			return errNoHTTP2
		}
		return nil
	}
}
