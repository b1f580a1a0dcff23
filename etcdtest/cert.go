package etcdtest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

const (
	// clockSkew is how long ago a certificate became valid.
	clockSkew = time.Hour
	// validity is how long a certificate is valid from then on.
	validity = 25 * time.Hour
)

// CertOption changes a certificate that a [CA] issues. If two set the same thing, the
// later one counts.
type CertOption func(*certSpec)

// certSpec is the result of the options of one certificate.
type certSpec struct {
	commonName          string
	dnsNames            []string
	ips                 []net.IP
	named               bool
	notBefore, notAfter time.Time
	usages              []x509.ExtKeyUsage
}

// CommonName sets the subject's common name; the default is "etcdtest". A server that
// requires client certificates and has authentication on takes the common name of the
// client's certificate as the user's name.
func CommonName(name string) CertOption {
	return func(c *certSpec) { c.commonName = name }
}

// DNSNames sets the host names that the certificate is for. Names and addresses
// given by [DNSNames] and [IPs] replace the default ones: with
// DNSNames("other.example") alone, a server on 127.0.0.1 has the wrong name.
func DNSNames(names ...string) CertOption {
	return func(c *certSpec) { c.dnsNames, c.named = names, true }
}

// IPs sets the addresses that the certificate is for, see [DNSNames].
func IPs(ips ...net.IP) CertOption {
	return func(c *certSpec) { c.ips, c.named = ips, true }
}

// NotBefore sets the time from which the certificate is valid. The default is an hour
// ago, or 25 hours before the end of an expired one.
func NotBefore(t time.Time) CertOption {
	return func(c *certSpec) { c.notBefore = t }
}

// NotAfter sets the time until which the certificate is valid. The default is 25 hours
// after its start.
func NotAfter(t time.Time) CertOption {
	return func(c *certSpec) { c.notAfter = t }
}

// ForServer makes a certificate for servers, which is the default. Together with
// [ForClient] it is for both.
func ForServer() CertOption {
	return func(c *certSpec) { c.usages = append(c.usages, x509.ExtKeyUsageServerAuth) }
}

// ForClient makes a certificate for clients. Without [ForServer] it has no names and
// addresses by default: etcd compares those of a client, if there are any, with the
// address that it connects from.
func ForClient() CertOption {
	return func(c *certSpec) { c.usages = append(c.usages, x509.ExtKeyUsageClientAuth) }
}

func newCertSpec(opts []CertOption) (*certSpec, error) {
	c := &certSpec{commonName: "etcdtest"}
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("etcdtest: a certificate option is nil")
		}
		opt(c)
	}
	if len(c.usages) == 0 {
		c.usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if !c.named && slices.Contains(c.usages, x509.ExtKeyUsageServerAuth) {
		c.dnsNames = []string{"localhost"}
		c.ips = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	c.defaultDates(time.Now())
	if !c.notBefore.Before(c.notAfter) {
		return nil, fmt.Errorf("etcdtest: a certificate that ends at %v, not after its begin at %v", c.notAfter, c.notBefore)
	}
	return c, nil
}

func (c *certSpec) defaultDates(now time.Time) {
	if c.notBefore.IsZero() {
		c.notBefore = now.Add(-clockSkew)
		if !c.notAfter.IsZero() && !c.notBefore.Before(c.notAfter) {
			c.notBefore = c.notAfter.Add(-validity)
		}
	}
	if c.notAfter.IsZero() {
		c.notAfter = c.notBefore.Add(validity)
	}
}

func (c *certSpec) template(serial *big.Int) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: c.commonName},
		DNSNames:              c.dnsNames,
		IPAddresses:           c.ips,
		NotBefore:             c.notBefore,
		NotAfter:              c.notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           c.usages,
		BasicConstraintsValid: true,
	}
}
