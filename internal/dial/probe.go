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

// A server that hangs up at once may be one of the other kind, TLS or plaintext,
// but also one that is just stopping, or a proxy that has nowhere to go. The
// first is a mistake in a configuration; the others pass. The probes below tell
// them apart by a second connection. Neither sends anything that a
// configuration or a request holds.
const (
	tlsProbeTimeout    = time.Second
	silentProbeTimeout = time.Second // a busy machine takes a while to hang up, too
)

// speaksTLS reports whether the server at t answers a TLS handshake. No
// authority is trusted, so that the handshake ends at the server's certificate.
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

// waitsForClient reports whether the server at t keeps a connection open on
// which nothing is sent. If it hangs up on a TLS handshake nevertheless, it is
// the handshake that it doesn't like.
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
