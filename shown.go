package etcd

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// shown returns a text of the configuration for printing: what no name and no path
// looks like was put into the wrong field, and is hidden.
func shown(text string) string {
	if looksLikeKey(text) {
		return redacted
	}
	return text
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

func allShown(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = shown(t)
	}
	return out
}

// readNamed reads a file whose path is in a field of the configuration. Errors about a
// file quote its path, so that it has to be one.
func readNamed(field, file string) ([]byte, error) {
	if looksLikeKey(file) {
		return nil, fmt.Errorf("%s holds a certificate or a key itself, and not the path of a file", field)
	}
	return os.ReadFile(file)
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

// redacted stands for a secret wherever a [Config] is printed.
const redacted = "REDACTED"
