package etcdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"
)

// caYears is how far a CA is valid into the past and the future, so that only a
// certificate's own odd dates are refused.
const caYears = 50

// CA is a certificate authority for tests. Make one with [NewCA], or get it from a server
// with TLS ([Server.CA]). Its own key stays in memory. Several goroutines may call its
// methods at once.
type CA struct {
	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	issued atomic.Int64
}

// NewCA makes a new authority, with an ECDSA P-256 key, and writes its certificate to
// ca.pem in dir, which will also hold the certificates that it issues. It makes the
// directory if that is missing. One directory holds one authority; a second one for the
// same directory is an error. For a rotation of the CA, make two authorities in two
// directories.
func NewCA(dir string) (*CA, error) {
	ca := &CA{dir: dir}
	if err := ca.create(); err != nil {
		return nil, fmt.Errorf("etcdtest: new CA: %w", err)
	}
	return ca, nil
}

func (ca *CA) create() (err error) {
	if err := os.MkdirAll(ca.dir, 0o700); err != nil {
		return err
	}
	if ca.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		// Each has its own name: if two authorities shared one, a client that trusts the
		// other would also complain of a bad signature.
		Subject:               pkix.Name{CommonName: "etcdtest CA " + serial.Text(36)},
		NotBefore:             now.AddDate(-caYears, 0, 0),
		NotAfter:              now.AddDate(caYears, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &ca.key.PublicKey, ca.key)
	if err != nil {
		return err
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	return writePEM(ca.CertFile(), "CERTIFICATE", der, 0o644)
}

// CertFile returns the path of the authority's certificate, in PEM: the file for clients
// to trust.
func (ca *CA) CertFile() string { return filepath.Join(ca.dir, "ca.pem") }

// Pool returns a new pool that holds only the authority's certificate.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// Issue makes a key and a certificate for it and returns the paths of the two files, in
// PEM; the key file has mode 0600. Without options it is a server certificate for
// 127.0.0.1, ::1 and localhost, see [CertOption].
func (ca *CA) Issue(opts ...CertOption) (certFile, keyFile string, err error) {
	name := filepath.Join(ca.dir, "cert-"+strconv.FormatInt(ca.issued.Add(1), 10))
	certFile, keyFile = name+".pem", name+"-key.pem"
	if err := ca.issue(certFile, keyFile, opts); err != nil {
		return "", "", err
	}
	return certFile, keyFile, nil
}

func (ca *CA) issue(certFile, keyFile string, opts []CertOption) error {
	spec, err := newCertSpec(opts)
	if err != nil {
		return err
	}
	if err := ca.sign(spec, certFile, keyFile); err != nil {
		return fmt.Errorf("etcdtest: issue certificate: %w", err)
	}
	return nil
}

func (ca *CA) sign(spec *certSpec, certFile, keyFile string) error {
	serial, err := newSerial()
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := x509.CreateCertificate(rand.Reader, spec.template(serial), ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(keyFile, "PRIVATE KEY", keyDER, 0o600),
		writePEM(certFile, "CERTIFICATE", cert, 0o644),
	)
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	return errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Close())
}
