package dial

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"slices"
	"syscall"

	"github.com/blueprint-go/etcd/internal/errs"
)

// IsPermanent reports whether an endpoint's failure won't pass by itself: somebody must
// change a configuration or a certificate.
func IsPermanent(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	return slices.ContainsFunc([]error{
		errs.ErrUnknownAuthority, errs.ErrWrongHostName, errs.ErrCertificateExpired, errs.ErrClientCertificate,
		errs.ErrNotTLS, errs.ErrTLSRequired, errs.ErrNotEtcd,
	}, func(kind error) bool { return errors.Is(err, kind) })
}

// connectCause puts a dialer's error under its sentinel.
func connectCause(err error) error {
	// A missing socket is to Unix sockets what a closed port is to TCP.
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return errs.WithKind(errs.ErrConnectionRefused, err)
	}
	return err
}

// tlsCause puts an error of the TLS handshake, or of the first read after it, under its
// sentinel. certificateAsked reports whether the server had asked for a client
// certificate by then.
func tlsCause(err error, certificateAsked bool) error {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return errs.WithKind(errs.ErrUnknownAuthority, err)
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return errs.WithKind(errs.ErrWrongHostName, err)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return errs.WithKind(errs.ErrCertificateExpired, err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return errs.WithKind(errs.ErrNotTLS, err)
	}
	alert := remoteAlert(err)
	switch {
	case errors.Is(err, errNoHTTP2), alert == alertNoApplicationProtocol:
		return errs.WithKind(errs.ErrNotEtcd, err)
	case slices.Contains(certificateAlerts, alert), alert == alertHandshakeFailure && certificateAsked:
		return errs.WithKind(errs.ErrClientCertificate, err)
	}
	return err
}

// TLS alerts, https://www.iana.org/assignments/tls-parameters. When a server sends one of
// certificateAlerts, it is about the client's certificate; a TLS 1.2 server that misses
// one sends the general alertHandshakeFailure.
const (
	alertHandshakeFailure      tls.AlertError = 40
	alertNoApplicationProtocol tls.AlertError = 120
)

var certificateAlerts = []tls.AlertError{
	42,  // bad_certificate
	43,  // unsupported_certificate
	44,  // certificate_revoked
	45,  // certificate_expired
	46,  // certificate_unknown
	48,  // unknown_ca
	49,  // access_denied
	116, // certificate_required
}

// remoteAlert returns the alert with which the server ended the connection, or 0, which
// is not an error. crypto/tls exports the type of an alert only for QUIC; its error here
// has the same text.
func remoteAlert(err error) tls.AlertError {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return 0
	}
	for _, a := range append(certificateAlerts[:len(certificateAlerts):len(certificateAlerts)],
		alertHandshakeFailure, alertNoApplicationProtocol) {
		if op.Err.Error() == a.Error() {
			return a
		}
	}
	return 0
}

// closedByPeer reports whether the peer hung up, in any of the ways that this can show,
// depending on what was under way.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

var errNoHTTP2 = errors.New("server did not agree to HTTP/2")
