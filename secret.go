package etcd

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
)

// secrets are what the setters of a [Config] were given. They are held by a function
// and not by fields: what prints a struct by reflection, past its methods, can't look
// into one.
type secrets struct {
	password, token          string
	encryptionKey, legacyKey []byte
}

// conceal changes the secrets of c. It makes another function, since copies of c share
// the old one.
func (c *Config) conceal(change func(*secrets)) {
	var s secrets
	if c.secrets != nil {
		s = c.secrets()
	}
	change(&s)
	c.secrets = func() secrets { return s }
}

// revealed returns a copy of c with its secrets in the fields. A field that was set
// by itself, after the setter if both, counts.
func (c *Config) revealed() *Config {
	r := *c
	if c.secrets == nil {
		return &r
	}
	s := c.secrets()
	setDefault(&r.Password, s.password)
	setDefault(&r.Token, s.token)
	if r.EncryptionKey == nil {
		r.EncryptionKey = slices.Clone(s.encryptionKey)
	}
	if r.LegacyKey == nil {
		r.LegacyKey = slices.Clone(s.legacyKey)
	}
	r.secrets = nil
	return &r
}

// forgetSecrets overwrites and drops the secrets of a Config that nobody else
// shares.
func (c *Config) forgetSecrets() {
	clear(c.EncryptionKey)
	clear(c.LegacyKey)
	c.EncryptionKey, c.LegacyKey, c.Password, c.Token = nil, nil, "", ""
}

// readNamed reads a file whose path is in a field of the configuration. Errors about a
// file quote its path, so that it has to be one.
func readNamed(field, file string) ([]byte, error) {
	if looksLikeKey(file) {
		return nil, fmt.Errorf("%s holds a certificate or a key itself, and not the path of a file", field)
	}
	return os.ReadFile(file)
}

// shown returns a text of the configuration for printing: what no name and no path
// looks like was put into the wrong field, and is hidden.
func shown(text string) string {
	if looksLikeKey(text) {
		return redacted
	}
	return text
}

func allShown(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = shown(t)
	}
	return out
}

// looksLikeKey reports whether a text is a certificate, a key or a whole file of
// anything, and not a name or a path: PEM, DER in Base64 or hexadecimal, several
// lines, or longer than any path (PATH_MAX).
func looksLikeKey(text string) bool {
	const longest, shortestDER = 4096, 40 // an Ed25519 key has 48 bytes
	if strings.Contains(text, "-----BEGIN") || strings.ContainsAny(strings.TrimSpace(text), "\n\r") || len(text) > longest {
		return true
	}
	text = strings.TrimSpace(text)
	for _, decode := range []func(string) ([]byte, error){
		base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
		base64.URLEncoding.DecodeString, base64.RawURLEncoding.DecodeString, hex.DecodeString,
	} {
		const sequence = 0x30 // what all of them are in ASN.1
		if der, err := decode(text); err == nil && len(der) >= shortestDER && der[0] == sequence {
			return true
		}
	}
	return false
}

// withoutPassword hides what stands behind a colon in a user name: etcd allows it
// there, but it is most often a password that was written as for a command line.
func withoutPassword(user string) string {
	name, _, found := strings.Cut(user, ":")
	if !found {
		return shown(user)
	}
	return shown(name) + ":" + redacted
}
