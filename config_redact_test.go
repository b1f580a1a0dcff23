package etcd_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

type holder struct{ C etcd.Config }

const (
	secretPassword = "hunter2-password"
	secretToken    = "hunter2-token"
	secretKey      = "hunter2-encryption-key"
	secretUserinfo = "hunter2-userinfo"
	secretLegacy   = "hunter2-legacy-key"
)

// secretConfigs returns a Config whose secrets were given to setters, and one with the
// same in its fields.
func secretConfigs(t *testing.T) (configs []*etcd.Config, secrets []string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	set := etcd.DefaultConfig().
		WithEndpoints("http://alice:"+secretUserinfo+"@host:1", "alice:"+secretUserinfo+"@host:1").
		WithTLSConfig(&tls.Config{Certificates: []tls.Certificate{{PrivateKey: private}}})
	fields := *set
	set.WithAuth("alice", secretPassword).WithToken(secretToken).
		WithEncryption([]byte(secretKey)).WithLegacyKey([]byte(secretLegacy), "/old/")
	fields.Username, fields.Password, fields.Token = "alice", secretPassword, secretToken
	fields.EncryptionKey, fields.LegacyKey, fields.LegacyPrefixes = []byte(secretKey), []byte(secretLegacy), []string{"/old/"}
	scalar, err := private.Bytes()
	require.NoError(t, err)
	for _, s := range []string{secretPassword, secretToken, secretKey, secretUserinfo, secretLegacy, string(scalar)} {
		secrets = append(secrets, printed(s)...)
	}
	d := fmt.Sprint(private.D) //nolint:staticcheck // what a reflective printer shows
	return []*etcd.Config{set, &fields}, append(secrets, d)
}

// printed returns the forms in which a secret could be printed.
func printed(s string) []string {
	hexadecimal := hex.EncodeToString([]byte(s))
	return []string{
		s, hexadecimal, strings.ToUpper(hexadecimal), base64.StdEncoding.EncodeToString([]byte(s)),
		strings.Trim(fmt.Sprint([]byte(s)), "[]"),
		strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", []byte(s)), "[]byte{"), "}"),
	}
}

func requireDiscreet(t *testing.T, how, text string, secrets []string) {
	t.Helper()
	assert.Contains(t, text, "alice", how)
	assert.Contains(t, text, "REDACTED", how)
	for _, s := range secrets {
		assert.NotContains(t, text, s, how)
	}
}

func TestNoVerbPrintsASecretOfAConfig(t *testing.T) {
	t.Parallel()
	configs, secrets := secretConfigs(t)
	for _, c := range configs {
		held := holder{*c}
		for _, verb := range "vsqdxXtbcoOUeEfFgG" {
			for _, flag := range []string{"", "+", "#", "-20", " "} {
				format := "%" + flag + string(verb)
				for _, arg := range []any{c, *c, held, &held, []etcd.Config{*c}, map[string]*etcd.Config{"c": c}} {
					if reflect.TypeOf(arg).Kind() == reflect.Map && verb != 'v' {
						continue // a map's own keys don't take every verb
					}
					requireDiscreet(t, format, fmt.Sprintf(format, arg), secrets)
				}
			}
		}
		requireDiscreet(t, "String", c.String(), secrets)
	}
}

func TestNoLogHoldsASecretOfAConfig(t *testing.T) {
	t.Parallel()
	configs, secrets := secretConfigs(t)
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		for _, c := range configs {
			for _, arg := range []any{c, *c, holder{*c}, []*etcd.Config{c}} {
				var b bytes.Buffer
				slog.New(handler(&b)).Info("x", "config", arg)
				if reflect.TypeOf(arg).Kind() == reflect.Slice && name == "text" {
					continue // prints the pointer
				}
				requireDiscreet(t, name, b.String(), secrets)
			}
		}
	}
}

func TestLogShowsEachConfigField(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "config", etcd.Config{Username: "alice", Password: secretPassword})
	assert.Contains(t, b.String(), "config.Username=alice config.Password=REDACTED")
}

func TestNoEncodingHoldsASecretOfAConfig(t *testing.T) {
	t.Parallel()
	configs, secrets := secretConfigs(t)
	for _, c := range configs {
		for _, arg := range []any{c, *c, holder{*c}} {
			asJSON, err := json.Marshal(arg)
			require.NoError(t, err)
			requireDiscreet(t, "json", string(asJSON), secrets)
			asXML, err := xml.Marshal([]any{arg})
			require.NoError(t, err)
			requireDiscreet(t, "xml", string(asXML), secrets)
		}
		asYAML, err := c.MarshalYAML()
		require.NoError(t, err)
		requireDiscreet(t, "yaml", fmt.Sprint(asYAML), secrets)
		asText, err := c.MarshalText()
		require.NoError(t, err)
		requireDiscreet(t, "text", string(asText), secrets)
	}
}

func TestAConfigPrintsWhatIsSet(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "etcd.Config{}", etcd.Config{}.String())
	c := (&etcd.Config{}).WithEndpoints("a:1").WithTimeout(1500e6).WithTLS("c.pem", "k.pem", "", true).WithRequireTLS()
	assert.Equal(t, "etcd.Config{Endpoints:[a:1] RequestTimeout:1.5s CertFile:c.pem KeyFile:k.pem InsecureSkipVerify:true RequireTLS:true}", c.String())
	asJSON, err := json.Marshal(c)
	require.NoError(t, err)
	assert.JSONEq(t, `{"Endpoints":["a:1"],"RequestTimeout":"1.5s","CertFile":"c.pem","KeyFile":"k.pem","InsecureSkipVerify":true,"RequireTLS":true}`, string(asJSON))
}

// A field that is added to Config but not to what is printed would be invisible.
func TestEverySetConfigFieldIsPrinted(t *testing.T) {
	t.Parallel()
	var c etcd.Config
	v := reflect.ValueOf(&c).Elem()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		c = etcd.Config{}
		setSomething(t, v.Field(i))
		assert.Contains(t, c.String(), "{"+field.Name+":")
	}
}

type noProvider struct{ etcd.KeyProvider }

func setSomething(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Func:
		v.Set(reflect.MakeFunc(v.Type(), func([]reflect.Value) []reflect.Value { return nil }))
	case reflect.Interface:
		require.Equal(t, reflect.TypeFor[etcd.KeyProvider](), v.Type())
		v.Set(reflect.ValueOf(noProvider{}))
	default:
		t.Fatalf("no value for %v", v.Type())
	}
}

// keyHolders are values of every type that holds a key, made of secretKey.
func keyHolders(t *testing.T) map[string]any {
	key := newKey(t, secretKey)
	external, err := etcd.NewAEADKey(etcd.KeyID{1}, reversing{secretKey})
	require.NoError(t, err)
	ring := newRing(t, key, external)
	cfg := etcd.DefaultConfig().WithKeyring(ring).WithLegacyKey([]byte(secretKey), "")
	client := stubClient(t, &stub{}, func(c *etcd.Config) {
		c.WithEncryption([]byte(secretKey)).WithLegacyKey([]byte(secretKey), "").WithAuth("alice", secretKey)
	})
	_, invalid := etcd.NewKeyring(key, key)
	return map[string]any{
		"key":               key,
		"key by value":      *key,
		"AEAD key":          external,
		"key inside":        struct{ key, Key any }{key, key},
		"value inside":      struct{ key, Key etcd.EncryptionKey }{*key, *key},
		"keys":              []*etcd.EncryptionKey{key, external},
		"key in a map":      map[string]etcd.EncryptionKey{"k": *key},
		"ring":              ring,
		"ring by value":     reflect.ValueOf(ring).Elem().Interface(),
		"ring inside":       struct{ ring, Ring *etcd.Keyring }{ring, ring},
		"config":            cfg,
		"config by value":   *cfg,
		"client":            client,
		"client by value":   reflect.ValueOf(client).Elem().Interface(),
		"client inside":     struct{ client, Client any }{client, client},
		"error of a ring":   invalid,
		"error of a key":    errorOf(etcd.NewEncryptionKey([]byte(secretKey[:15]))),
		"error of a salt":   errorOf(etcd.KeyFromPassphrase(secretKey, []byte("short"))),
		"error of a config": cfg.WithEncryption([]byte(secretKey)).Validate(),
	}
}

func errorOf[T any](_ T, err error) error { return err }

// requireNone holds that a text has nothing of secretKey in any form.
func requireNone(t *testing.T, text, what string) {
	t.Helper()
	for _, s := range printed(secretKey[:15]) {
		require.NotContains(t, text, s, what)
	}
}

func TestNoVerbPrintsAKey(t *testing.T) {
	t.Parallel()
	for name, v := range keyHolders(t) {
		for _, verb := range "vsqdxXtbcoOUeEfFgGT" {
			for _, flag := range []string{"", "+", "#", "-20", " ", "+#"} {
				format := "%" + flag + string(verb)
				text := fmt.Sprintf(format, v)
				requireNone(t, text, format+" of "+name)
			}
		}
	}
}

func TestNoLogAndNoEncodingHoldsAKey(t *testing.T) {
	t.Parallel()
	for name, v := range keyHolders(t) {
		var b bytes.Buffer
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v, slog.Group("g", "v", v))
		asJSON, err := json.Marshal(map[string]any{"v": v})
		if err == nil { // what can't be encoded gives nothing away
			b.Write(asJSON)
		}
		asXML, err := xml.Marshal([]any{v})
		if err == nil {
			b.Write(asXML)
		}
		requireNone(t, b.String(), name)
	}
}

func TestEveryFormNamesKeysAndRingsByID(t *testing.T) {
	t.Parallel()
	key := newKey(t, secretKey)
	ring := newRing(t, key)
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "key", key, "ring", ring, "id", key.ID())
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "key", key, "ring", ring, "id", key.ID())
	asJSON, err := json.Marshal([]any{key, *key, ring})
	require.NoError(t, err)
	all := b.String() + string(asJSON) + fmt.Sprintf("%v %#v %x %d %s", key, *key, key, ring, ring)
	short := key.ID().String()
	assert.Equal(t, 2*(1+2+1)+(1+1+2)+3+2*2, strings.Count(all, short))
	assert.NotContains(t, all, key.ID().Hex(), "logs name the first digits only")
}
