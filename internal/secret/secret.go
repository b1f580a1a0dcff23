// Package secret decides what must not be printed, and reads files without quoting
// anything that isn't a path. It imports only the standard library.
package secret

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"unicode"
)

// Shown returns a text of the configuration for printing. It hides text that doesn't look
// like a name or a path, which was probably put into the wrong field.
func Shown(text string) string {
	if LooksLikeKey(text) {
		return Redacted
	}
	return text
}

// LooksLikeKey reports whether a text is a certificate, a key or the content of a file
// rather than a name or a path: PEM, DER in Base64 or hexadecimal, several lines, or
// longer than any path (PATH_MAX).
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
		const sequence = 0x30 // the ASN.1 tag that all of them begin with
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
// file quote its path, so ReadFile refuses text that is not a path.
func ReadFile(field, file string) ([]byte, error) {
	if LooksLikeKey(file) {
		return nil, fmt.Errorf("%s holds a certificate or a key itself, and not the path of a file", field)
	}
	return os.ReadFile(file)
}

// WithoutPassword hides the part of a user name after a colon: etcd allows colons in
// names, but such a part is usually a password, written as on a command line.
func WithoutPassword(user string) string {
	name, _, found := strings.Cut(user, ":")
	if !found {
		return Shown(user)
	}
	return Shown(name) + ":" + Redacted
}

// Redacted replaces a secret wherever a configuration is printed.
const Redacted = "REDACTED"

// WithoutUserinfo hides what may be a password in an endpoint, even if that is not a
// valid URL: the part before an @, a query, and a port that isn't one.
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
