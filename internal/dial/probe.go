package dial

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"time"
)

// A server that hangs up at once may be of the other kind, TLS or plaintext. But it may
// also be stopping, or a proxy without a target. The first is a mistake in a
// configuration; the others pass. The probes below distinguish them by a second
// connection. Neither sends anything from a configuration or a request.
const (
	tlsProbeTimeout    = time.Second
	silentProbeTimeout = time.Second // a busy machine may take a while to hang up
)

// speaksTLS reports whether the server at t answers a TLS handshake. It trusts no
// authority, so the handshake ends at the server's certificate.
func (d *Dialer) speaksTLS(ctx context.Context, t target) bool {
	ctx, cancel := context.WithTimeout(ctx, tlsProbeTimeout)
	defer cancel()
	conn, err := d.open(ctx, t.network, t.address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	host, _, _ := net.SplitHostPort(t.address)
	err = tls.Client(conn, &tls.Config{
		ServerName: cmp.Or(host, "localhost"),
		RootCAs:    x509.NewCertPool(),
		NextProtos: []string{"h2"},
		MinVersion: tls.VersionTLS12,
	}).HandshakeContext(ctx)
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// waitsForClient reports whether the server at t keeps a connection open on which nothing
// is sent. If it does, but hangs up on a TLS handshake, the handshake is what it doesn't
// like.
func (d *Dialer) waitsForClient(ctx context.Context, t target) bool {
	ctx, cancel := context.WithTimeout(ctx, silentProbeTimeout)
	defer cancel()
	conn, err := d.open(ctx, t.network, t.address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetReadDeadline(deadline); err != nil {
		return false
	}
	_, err = conn.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}
