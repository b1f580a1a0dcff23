package etcd_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestNoVerbPrintsAHiddenConfigsSecret(t *testing.T) {
	t.Parallel()
	c := etcd.DefaultConfig().WithAuth("alice", secretPassword).WithToken(secretToken).
		WithEncryption([]byte(secretKey)).WithLegacyKey([]byte(secretLegacy), "")
	held := struct {
		p *etcd.Config
		v etcd.Config
	}{c, *c}
	for _, verb := range "vsqdxXtbcoOUeEfFgGT" {
		for _, flag := range []string{"", "+", "#", " "} {
			format := "%" + flag + string(verb)
			for _, arg := range []any{held, &held, struct{ p *etcd.Config }{c}} {
				text := fmt.Sprintf(format, arg)
				for _, s := range []string{secretPassword, secretToken, secretKey, secretLegacy} {
					for _, form := range printed(s) {
						require.NotContains(t, text, form, format)
					}
				}
			}
		}
	}
}

// A private key in its usual forms, each given where something else belongs.
func TestMisplacedKeyIsNotQuoted(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	for form, key := range map[string]string{
		"PEM":           string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"PEM, one line": strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "\n", " "),
		"Base64":        base64.StdEncoding.EncodeToString(der),
		"hexadecimal":   hex.EncodeToString(der),
	} {
		part := key[len(key)/3 : len(key)/3+20]
		requireUnquoted := func(what, text string) {
			t.Helper()
			require.NotContains(t, text, part, "%s of %s", what, form)
		}
		for field, c := range map[string]*etcd.Config{
			"CertFile":            etcd.DefaultConfig().WithTLS(key, "key.pem", "", false),
			"KeyFile":             etcd.DefaultConfig().WithTLS("cert.pem", key, "", false),
			"CAFile":              etcd.DefaultConfig().WithTLS("", "", key, false),
			"ServerName":          etcd.DefaultConfig().WithServerName(key),
			"Username":            etcd.DefaultConfig().WithAuth(key, ""),
			"Endpoints":           etcd.DefaultConfig().WithEndpoints(key),
			"DiscoverySRV":        new(etcd.Config).WithDiscoverySRV(key, ""),
			"DiscoverySRVName":    new(etcd.Config).WithDiscoverySRV("localhost", key),
			"Namespace":           etcd.DefaultConfig().WithNamespace(key),
			"PlaintextReads":      etcd.DefaultConfig().WithPlaintextReads(key),
			"PlaintextWrites":     etcd.DefaultConfig().WithPlaintextWrites(key),
			"UnencryptedPrefixes": etcd.DefaultConfig().WithUnencryptedPrefixes(key),
			"LegacyPrefixes":      etcd.DefaultConfig().WithLegacyKey([]byte("k"), key),
			"AssociatedContext":   etcd.DefaultConfig().WithAssociatedContext([]byte(key)),
		} {
			asJSON, err := json.Marshal(c)
			require.NoError(t, err)
			asYAML, err := c.MarshalYAML()
			require.NoError(t, err)
			var log bytes.Buffer
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", c)
			requireUnquoted(field, fmt.Sprintf("%v %#v %s %v", c, c, asJSON, asYAML)+log.String())
			client, err := etcd.NewClient(c.WithLogger(slog.New(slog.NewTextHandler(&log, nil))).WithLazyConnect().WithDialTimeout(1))
			if err == nil {
				require.NoError(t, client.Close())
			} else {
				requireUnquoted("error of "+field, fmt.Sprintf("%v %+v", err, err)+log.String())
				for ; err != nil; err = unwrapped(err) {
					requireUnquoted("error within "+field, err.Error())
				}
			}
			if strings.HasSuffix(field, "File") {
				require.ErrorContains(t, c.Validate(), field+" holds a certificate or a key itself")
			}
		}
		for _, variable := range []string{
			"ETCD_ENDPOINTS", "ETCDCTL_ENDPOINTS", "ETCDCTL_USER", "ETCDCTL_CERT", "ETCDCTL_KEY", "ETCDCTL_CACERT",
			"ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "ETCDCTL_INSECURE_TRANSPORT", "ETCDCTL_DIAL_TIMEOUT", "ETCDCTL_COMMAND_TIMEOUT",
			"ETCDCTL_KEEPALIVE_TIME", "ETCDCTL_KEEPALIVE_TIMEOUT", "ETCDCTL_AUTH_JWT_TOKEN", "ETCDCTL_MAX_REQUEST_BYTES",
			"ETCDCTL_DISCOVERY_SRV", "ETCDCTL_DISCOVERY_SRV_NAME", "ETCDCTL_API", "ETCDCTL_PEERS",
		} {
			t.Run(form+" "+variable, func(t *testing.T) {
				t.Setenv(variable, key)
				c, err := etcd.ConfigFromEnv()
				requireUnquoted(variable, fmt.Sprint(c, err, c.Validate()))
			})
		}
	}
}

// unwrapped returns the first error within err.
func unwrapped(err error) error {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return e.Unwrap()
	case interface{ Unwrap() []error }:
		if all := e.Unwrap(); len(all) > 0 {
			return all[len(all)-1]
		}
	}
	return nil
}

func TestMisplacedPasswordIsNotQuoted(t *testing.T) {
	for variable, values := range map[string][]string{
		"ETCD_ENDPOINTS": {
			"http://user:hunter2@h:1", "user:hunter2@h:1", "https://h:1/?pw=hunter2", "http://h:1/#hunter2", "root:hunter2",
			"http://root:hunter2", "http://user:hunter2 @h", "user:p://hunter2@h:1", "http://h:1?x=hunter2@b",
		},
		"ETCDCTL_DIAL_TIMEOUT":             {"hunter2"},
		"ETCDCTL_KEEPALIVE_TIME":           {"hunter2"},
		"ETCDCTL_INSECURE_SKIP_TLS_VERIFY": {"hunter2"},
		"ETCDCTL_INSECURE_TRANSPORT":       {"hunter2"},
	} {
		for _, value := range values {
			t.Run(variable, func(t *testing.T) {
				t.Setenv(variable, value)
				c, err := etcd.ConfigFromEnv()
				require.ErrorIs(t, err, etcd.ErrInvalidConfig, value)
				require.ErrorContains(t, err, variable)
				require.NotContains(t, fmt.Sprint(c, err), "hunter2", value)
				require.NotContains(t, etcd.DefaultConfig().WithEndpoints(value).String(), "hunter2:", value)
			})
		}
	}
	c := etcd.DefaultConfig().WithAuth("root:hunter2", "p")
	require.Contains(t, c.String(), "Username:root:REDACTED")
	require.NotContains(t, c.String(), "hunter2")
}
