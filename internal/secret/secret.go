// Package secret says what must not be printed, and reads files without quoting
// what isn't a path. It imports the standard library only.
package secret

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"unicode"
)

// Shown returns a text of the configuration for printing: what no name and no path
// looks like was put into the wrong field, and is hidden.
func Shown(text string) string {
	if LooksLikeKey(text) {
		return Redacted
	}
	return text
}

// LooksLikeKey reports whether a text is a certificate, a key or a whole file of
// anything, and not a name or a path: PEM, DER in Base64 or hexadecimal, several
// lines, or longer than any path (PATH_MAX).
func LooksLikeKey(text string) bool {
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

// AllShown returns each of texts as [Shown] does.
func AllShown(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = Shown(t)
	}
	return out
}

// ReadFile reads a file whose path is in a field of the configuration. Errors about a
// file quote its path, so that it has to be one.
func ReadFile(field, file string) ([]byte, error) {
	if LooksLikeKey(file) {
		return nil, fmt.Errorf("%s holds a certificate or a key itself, and not the path of a file", field)
	}
	return os.ReadFile(file)
}

// WithoutPassword hides what stands behind a colon in a user name: etcd allows it
// there, but it is most often a password that was written as for a command line.
func WithoutPassword(user string) string {
	name, _, found := strings.Cut(user, ":")
	if !found {
		return Shown(user)
	}
	return Shown(name) + ":" + Redacted
}

// Redacted stands for a secret wherever a configuration is printed.
const Redacted = "REDACTED"

// WithoutUserinfo hides what may be a password in an endpoint, whether or not that is
// a valid URL: what stands before an @, a query, and a port that is none.
func WithoutUserinfo(raw string) string {
	if strings.HasPrefix(raw, "unix:") || strings.HasPrefix(raw, "unixs:") {
		return raw
	}
	scheme, rest, found := strings.Cut(raw, "://")
	if found && !strings.ContainsFunc(scheme, func(r rune) bool { return !unicode.IsLetter(r) }) {
		scheme += "://"
	} else {
		scheme, rest = "", raw
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = Redacted + rest[at:]
	}
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i+1] + Redacted
	}
	if host, port, found := strings.Cut(rest, ":"); found && strings.ContainsFunc(port, unicode.IsLetter) && !strings.ContainsAny(port, ":/") {
		rest = host + ":" + Redacted
	}
	return scheme + rest
}
