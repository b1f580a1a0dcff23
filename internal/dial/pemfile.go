package dial

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// pemBlock is one block of a PEM file, and its position.
type pemBlock struct {
	*pem.Block
	number, line int
}

// errorf says what is wrong with a block, and which block it is.
func (b pemBlock) errorf(format string, args ...any) error {
	return fmt.Errorf("block %d, at line %d: %w", b.number, b.line, fmt.Errorf(format, args...))
}

const (
	pemBegin = "-----BEGIN "
	pemEnd   = "-----END "
)

// pemBlocks returns all blocks of a PEM file, or an error for one that can't be read.
// Package pem skips what it doesn't understand; then the user of a bundle would trust
// less than was meant, or another part of it. Text between the blocks is allowed, as in
// the bundles of most systems.
func pemBlocks(file []byte) ([]pemBlock, error) {
	var blocks []pemBlock
	rest := file
	for {
		before, from, found := cutBefore(rest, pemBegin)
		next := pemBlock{number: len(blocks) + 1, line: 1 + bytes.Count(file[:len(file)-len(from)], []byte("\n"))}
		if mangled(before) {
			return nil, next.errorf("the text before it holds the beginning or the end of a block that is damaged")
		}
		if !found {
			return blocks, nil
		}
		if line := before[bytes.LastIndexByte(before, '\n')+1:]; len(line) > 0 || len(blocks) > 0 && !bytes.HasSuffix(file[:len(file)-len(from)], []byte("\n")) {
			return nil, next.errorf("it doesn't begin a line, so that it would be passed over")
		}
		var err error
		if next.Block, rest, err = decodeBlock(from); err != nil {
			return nil, next.errorf("%w", err)
		}
		blocks = append(blocks, next)
	}
}

// cutBefore cuts b before mark.
func cutBefore(b []byte, mark string) (before, from []byte, found bool) {
	if i := bytes.Index(b, []byte(mark)); i >= 0 {
		return b[:i], b[i:], true
	}
	return b, nil, false
}

// mangled reports whether text between blocks looks like a part of one.
func mangled(text []byte) bool {
	return bytes.Contains(text, []byte(pemEnd)) || bytes.Contains(text, []byte("-BEGIN ")) || bytes.Contains(text, []byte("-END "))
}

// decodeBlock decodes the block that b begins with.
func decodeBlock(b []byte) (*pem.Block, []byte, error) {
	begin, _, _ := bytes.Cut(b, []byte("\n"))
	if !bytes.HasSuffix(bytes.TrimRight(begin, " \t\r"), []byte("-----")) {
		return nil, nil, errors.New("its first line is damaged")
	}
	_, after, ended := cutBefore(b, pemEnd)
	if _, _, another := cutBefore(b[len(pemBegin):len(b)-len(after)], pemBegin); !ended || another {
		return nil, nil, errors.New("it is cut off")
	}
	// Only up to the end of its last line, so that nothing after it is taken instead.
	line := after
	if i := bytes.IndexByte(after, '\n'); i >= 0 {
		line = after[:i+1]
	}
	whole := b[:len(b)-len(after)+len(line)]
	block, _ := pem.Decode(whole)
	if block == nil {
		return nil, nil, lastLineError(line)
	}
	return block, b[len(whole):], nil
}

// lastLineError returns why a block that ends with line can't be read.
func lastLineError(line []byte) error {
	if bytes.Contains(line, []byte(pemBegin)) {
		return errors.New("no line end stands between its end and the next block")
	}
	return errors.New("it is damaged")
}

// authorities returns all certificates of a bundle.
func authorities(bundle []byte) (*x509.CertPool, error) {
	blocks, err := pemBlocks(bundle)
	if err != nil {
		return nil, err
	}
	if len(blocks) == 0 {
		return nil, errNoCertificate
	}
	pool := x509.NewCertPool()
	for _, b := range blocks {
		cert, err := b.certificate()
		if err != nil {
			return nil, err
		}
		pool.AddCert(cert)
	}
	return pool, nil
}

var errNoCertificate = errors.New("no certificate in it; PEM is needed")

// certificate parses a block that must be a certificate.
func (b pemBlock) certificate() (*x509.Certificate, error) {
	switch {
	case b.Type != "CERTIFICATE":
		return nil, b.errorf("it is %q and not a certificate", b.Type)
	case len(b.Headers) > 0:
		return nil, b.errorf("it has headers, which a certificate has not")
	}
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, b.errorf("%w", err)
	}
	return cert, nil
}

// checkChain returns an error unless the file with the client's certificate can be read
// as a whole: a server that misses an intermediate authority refuses the certificate. The
// file may hold other blocks, such as the key.
func checkChain(file []byte) error {
	blocks, err := pemBlocks(file)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		if b.Type != "CERTIFICATE" {
			continue
		}
		if _, err := b.certificate(); err != nil {
			return err
		}
	}
	return nil
}

// errEncryptedKey is the error for a private key that only a passphrase opens.
var errEncryptedKey = errors.New("the private key is encrypted with a passphrase, which can't be given here; " +
	"store it without one, by openssl pkey -in FILE -out FILE2")

// isEncryptedKey reports whether a file holds a private key under a passphrase, in either
// of the existing forms.
func isEncryptedKey(file []byte) bool {
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return true
		}
	}
	return false
}
