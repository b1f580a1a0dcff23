package dial

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/dial/dialtest"
)

func TestBundlesAreUsedWholeOrRefusedByName(t *testing.T) {
	t.Parallel()
	one, two, three := string(dialtest.NewAuthority(t).PEM()), string(dialtest.NewAuthority(t).PEM()), string(dialtest.NewAuthority(t).PEM())
	lines := strings.Count(one, "\n")
	for name, tc := range map[string]struct {
		bundle string
		want   string // of the error; none if it is empty
	}{
		"one":                  {one, ""},
		"three":                {one + two + three, ""},
		"no line end at last":  {one + strings.TrimSpace(two), ""},
		"Windows line ends":    {strings.ReplaceAll(one+two, "\n", "\r\n"), ""},
		"comments":             {"# Authorities\n" + one + "\nSecond\n======\n" + two, ""},
		"blank lines":          {"\n\n" + one + "\n\n" + two + "\n\n", ""},
		"blanks at a line end": {strings.Replace(one, "CERTIFICATE-----\n", "CERTIFICATE----- \n", 2), ""},
		"nothing":              {"", "no certificate in it"},
		"DER":                  {"\x30\x82\x01\x02", "no certificate in it"},
		"no line end between":  {one + strings.TrimSpace(two) + three, fmt.Sprintf("block 2, at line %d: no line end", 1+lines)},
		"one indented":         {one + " " + strings.ReplaceAll(two, "\n", "\n "), fmt.Sprintf("block 2, at line %d: it doesn't begin a line", 1+lines)},
		"a byte order mark":    {"\ufeff" + one, "block 1, at line 1: it doesn't begin a line"},
		"garbage for one":      {one + block("CERTIFICATE", []byte("not DER")), fmt.Sprintf("block 2, at line %d: x509", 1+lines)},
		"damaged base64":       {strings.Replace(one, "\nM", "\n!", 1) + two, "block 1, at line 1: it is damaged"},
		"cut at the end":       {one + two[:len(two)/2], fmt.Sprintf("block 2, at line %d: it is cut off", 1+lines)},
		"cut in the middle":    {one[:len(one)/2] + "\n" + two, "block 1, at line 1: it is cut off"},
		"cut first line":       {strings.TrimPrefix(one, "-----BEGIN ") + two, "the text before it holds"},
		"four dashes":          {one + strings.TrimPrefix(two, "-"), "the text before it holds"},
		"first line damaged":   {strings.Replace(one, "CERTIFICATE-----\n", "CERTIFICATE----\n", 1), "block 1, at line 1: its first line is damaged"},
		"last line left":       {one + "-----END CERTIFICATE-----\n", "the text before it holds"},
		"a key among them":     {one + block("PRIVATE KEY", []byte("secret")), `it is "PRIVATE KEY" and not a certificate`},
		"trusted certificates": {strings.ReplaceAll(one, " CERTIFICATE", " TRUSTED CERTIFICATE"), `it is "TRUSTED CERTIFICATE" and not a certificate`},
		"headers":              {strings.Replace(one, "-----\n", "-----\nA: b\n\n", 1), "it has headers"},
	} {
		pool, err := authorities([]byte(tc.bundle))
		if tc.want == "" {
			require.NoError(t, err, name)
			assert.False(t, pool.Equal(x509.NewCertPool()), name)
			continue
		}
		require.ErrorContains(t, err, tc.want, name)
		assert.Equal(t, strings.HasPrefix(tc.want, "no certificate"), errors.Is(err, errNoCertificate), name)
		assert.NotContains(t, err.Error(), "secret", name)
		assert.NotContains(t, err.Error(), "\n", name)
	}
	all, err := authorities([]byte(one + two + three))
	require.NoError(t, err)
	want := x509.NewCertPool()
	require.True(t, want.AppendCertsFromPEM([]byte(one+two+three)))
	assert.True(t, all.Equal(want), "all of them")
}

func block(kind string, content []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
}

// A bundle that goes bad while the client runs doesn't replace the last good one.
func TestBadBundleLeavesLastGoodOneInUse(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	_, err := r.connect()
	require.NoError(t, err)
	other := string(dialtest.NewAuthority(t).PEM())
	dialtest.WriteFile(t, r.dir, "ca.pem", []byte(strings.TrimSpace(other)+string(r.a.PEM())))
	_, err = r.connect()
	require.NoError(t, err)
	assert.Contains(t, r.logged.String(), "no line end stands between")
	assert.Contains(t, r.logged.String(), "ca.pem")
}

func TestClientChainIsUsedWholeOrRefused(t *testing.T) {
	t.Parallel()
	a := dialtest.NewAuthority(t)
	dir := t.TempDir()
	cert, key := dialtest.WritePair(t, dir, a.Issue())
	leaf, err := os.ReadFile(cert)
	require.NoError(t, err)
	between := dialtest.NewAuthority(t).PEM()

	dialtest.WriteFile(t, dir, "chain.pem", append(append([]byte{}, leaf...), between...))
	_, err = ReadKeyPair(dir+"/chain.pem", key)
	require.NoError(t, err)
	dialtest.WriteFile(t, dir, "chain.pem", append(bytes.TrimSpace(leaf), between...))
	_, err = ReadKeyPair(dir+"/chain.pem", key)
	require.ErrorContains(t, err, "chain.pem: block 1, at line 1: no line end")
}

func TestEncryptedKeyIsToldAsSuch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, _ := dialtest.WritePair(t, dir, dialtest.NewAuthority(t).Issue())
	old := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: []byte("secret"), Headers: map[string]string{
		"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00",
	}}
	for name, content := range map[string]string{
		"pkcs8.pem": block("ENCRYPTED PRIVATE KEY", []byte("secret")),
		"old.pem":   string(pem.EncodeToMemory(old)),
	} {
		key := dialtest.WriteFile(t, dir, name, []byte(content))
		_, err := ReadKeyPair(cert, key)
		require.ErrorIs(t, err, errEncryptedKey)
		assert.Contains(t, err.Error(), name)
		assert.NotContains(t, err.Error(), "secret")
	}
	_, err := tls.LoadX509KeyPair(cert, dir+"/pkcs8.pem")
	require.Error(t, err, "nobody else can read it either")
}
