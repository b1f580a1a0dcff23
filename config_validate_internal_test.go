package etcd

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/dial/dialtest"
)

// nothing is an AEAD that is not used.
type nothing struct{ AEAD }

// files are TLS files in every state.
type files struct {
	dir                   string
	cert, key, ca         string
	otherKey              string
	garbage, empty, cut   string
	missing, isADirectory string
}

func newFiles(t *testing.T) files {
	a, dir := dialtest.NewAuthority(t), t.TempDir()
	f := files{dir: dir, missing: filepath.Join(dir, "missing.pem"), isADirectory: dir}
	f.cert, f.key = dialtest.WritePair(t, dir, a.Issue())
	f.ca = dialtest.WriteFile(t, dir, "ca.pem", a.PEM())
	f.otherKey = dialtest.WriteFile(t, dir, "other.pem", dialtest.KeyPEM(t, a.Issue()))
	f.garbage = dialtest.WriteFile(t, dir, "garbage.pem", []byte("garbage"))
	f.empty = dialtest.WriteFile(t, dir, "empty.pem", nil)
	f.cut = dialtest.WriteFile(t, dir, "cut.pem", append(a.PEM(), a.PEM()[:100]...))
	return f
}

// refusal is a Config that is refused, and how.
type refusal struct {
	config *Config
	is     error // besides ErrInvalidConfig; may be nil
	text   string
}

func requireEachRefused(t *testing.T, rows map[string]refusal) {
	t.Helper()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := row.config.Validate()
			require.ErrorIs(t, err, ErrInvalidConfig)
			if row.is != nil {
				assert.ErrorIs(t, err, row.is)
			}
			assert.Contains(t, err.Error(), row.text)
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestValidateRefusesUnusableEndpoints(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	with := func(endpoints ...string) *Config { return new(Config).WithEndpoints(endpoints...) }
	requireEachRefused(t, map[string]refusal{
		"no endpoints":                {with(), nil, "Endpoints: no endpoints"},
		"malformed endpoint":          {with("a:1", "::::"), nil, `Endpoints: endpoint "::::"`},
		"two malformed endpoints":     {with("ftp://x", "http://"), nil, `endpoint "ftp://x": scheme "ftp"`},
		"mixed http and https":        {with("http://a:1", "https://b:1"), nil, "https://b:1 are TLS and http://a:1 plaintext"},
		"mixed bare and https":        {with("a:1", "https://b:1"), nil, "https://b:1 are TLS and a:1 plaintext"},
		"http with TLS":               {with("http://a:1").WithTLS("", "", "", false), nil, "http://a:1 would ignore the TLS settings"},
		"http with a CA":              {&Config{Endpoints: []string{"http://a:1"}, CAFile: f.ca}, nil, "http://a:1 would ignore the TLS settings"},
		"http with TLSConfig":         {with("http://a:1").WithTLSConfig(&tls.Config{}), nil, "http://a:1 would ignore the TLS settings"},
		"http with ServerName":        {with("http://a:1").WithServerName("a"), nil, "http://a:1 would ignore the TLS settings"},
		"unix with TLS":               {with("unix:///s").WithTLS("", "", "", false), nil, "unix:///s would ignore the TLS settings"},
		"RequireTLS with http":        {with("http://a:1").WithRequireTLS(), nil, "RequireTLS: TLS is required and http://a:1 would be plaintext"},
		"RequireTLS with the default": {new(Config).WithRequireTLS(), nil, "localhost:2379 would be plaintext"},
		"RequireTLS with credentials": {with("a:1").WithAuth("u", "p").WithRequireTLS(), nil, "a:1 would be plaintext"},
	})
}

func TestValidateRefusesNumbersOutOfBounds(t *testing.T) {
	t.Parallel()
	requireEachRefused(t, map[string]refusal{
		"DialTimeout below 0":               {new(Config).WithDialTimeout(-1), nil, "DialTimeout: -1ns is below 0"},
		"RequestTimeout below 0":            {new(Config).WithTimeout(-time.Second), nil, "RequestTimeout: -1s is below 0"},
		"KeepAliveInterval below 0":         {new(Config).WithKeepAlive(-1, 0), nil, "KeepAliveInterval: -1ns is below 0"},
		"KeepAliveInterval below 10 s":      {new(Config).WithKeepAlive(10*time.Second-1, 0), nil, "is below 10s"},
		"KeepAliveTimeout below 0":          {new(Config).WithKeepAlive(0, -1), nil, "KeepAliveTimeout: -1ns is below 0"},
		"AutoSyncInterval below 0":          {new(Config).WithAutoSync(-1), nil, "AutoSyncInterval: -1ns is below 0"},
		"WithCompression of 0":              {new(Config).WithCompression(0), nil, "CompressionMinSize: 0 bytes is below 1024"},
		"compression below 1 KiB":           {&Config{CompressionMinSize: 1023}, nil, "CompressionMinSize: 1023 bytes is below 1024"},
		"negative compression":              {&Config{CompressionMinSize: -1}, nil, "CompressionMinSize: -1 bytes is below 1024"},
		"MaxRequestBytes below 0":           {new(Config).WithMaxRequestBytes(-1), nil, "MaxRequestBytes: -1 is below 0"},
		"MaxTxnOps below 0":                 {new(Config).WithMaxTxnOps(-1), nil, "MaxTxnOps: -1 is below 0"},
		"BatchInFlight below 0":             {&Config{BatchInFlight: -1}, nil, "BatchInFlight: -1 is below 0"},
		"WithBatchInFlight of 0":            {new(Config).WithBatching(WithBatchInFlight(0)), nil, "WithBatchInFlight of less than 1"},
		"WithBatching of nil":               {new(Config).WithBatching(nil), nil, "nil option"},
		"MaxKeyBytes below 0":               {new(Config).WithMaxKeyBytes(-1), nil, "MaxKeyBytes: -1 is below 0"},
		"namespace as long as a key":        {new(Config).WithNamespace("12345").WithMaxKeyBytes(5), nil, "Namespace: 5 bytes of at most 5"},
		"namespace as long as a key may be": {new(Config).WithNamespace(strings.Repeat("n", DefaultMaxKeyBytes)), nil, "Namespace: 65536 bytes of at most 65536"},
	})
}

func TestValidateRefusesUnusableCredentials(t *testing.T) {
	t.Parallel()
	requireEachRefused(t, map[string]refusal{
		"Username without Password": {new(Config).WithAuth("u", ""), nil, "Username is set without Password"},
		"Password without Username": {new(Config).WithAuth("", "p"), nil, "Password is set without Username"},
		"Username with Token":       {new(Config).WithAuth("u", "p").WithToken("t"), nil, "Token is set together with Username"},
	})
}

func TestValidateRefusesUnusableTLSSettings(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	requireEachRefused(t, map[string]refusal{
		"key without certificate":             {new(Config).WithTLS("", f.key, "", false), nil, "KeyFile is set without CertFile"},
		"certificate without key":             {new(Config).WithTLS(f.cert, "", "", false), nil, "CertFile is set without KeyFile"},
		"missing certificate":                 {new(Config).WithTLS(f.missing, f.key, "", false), fs.ErrNotExist, f.missing},
		"missing key":                         {new(Config).WithTLS(f.cert, f.missing, "", false), fs.ErrNotExist, f.missing},
		"missing CA":                          {new(Config).WithTLS("", "", f.missing, false), fs.ErrNotExist, "CAFile: open " + f.missing},
		"certificate that can't be read":      {new(Config).WithTLS(f.isADirectory, f.key, "", false), nil, "is a directory"},
		"CA that can't be read":               {new(Config).WithTLS("", "", f.isADirectory, false), nil, "is a directory"},
		"garbage certificate":                 {new(Config).WithTLS(f.garbage, f.key, "", false), nil, f.garbage},
		"garbage key":                         {new(Config).WithTLS(f.cert, f.garbage, "", false), nil, f.garbage},
		"garbage CA":                          {new(Config).WithTLS("", "", f.garbage, false), nil, f.garbage + ": no certificate in it"},
		"empty CA":                            {new(Config).WithTLS("", "", f.empty, false), nil, f.empty + ": no certificate in it"},
		"CA that is a key":                    {new(Config).WithTLS("", "", f.key, false), nil, f.key + `: block 1, at line 1: it is "PRIVATE KEY" and not a certificate`},
		"CA that is cut off":                  {new(Config).WithTLS("", "", f.cut, false), nil, f.cut + ": block 2, at line "},
		"key of another certificate":          {new(Config).WithTLS(f.cert, f.otherKey, "", false), nil, "private key does not match public key"},
		"TLSConfig with files":                {new(Config).WithTLS(f.cert, f.key, "", false).WithTLSConfig(&tls.Config{}), nil, "TLSConfig is set together with CertFile, KeyFile or CAFile"},
		"TLSConfig with a CA file":            {new(Config).WithTLS("", "", f.ca, false).WithTLSConfig(&tls.Config{}), nil, "TLSConfig is set together with"},
		"TLSConfig below TLS 1.2":             {new(Config).WithTLSConfig(&tls.Config{MaxVersion: tls.VersionTLS11}), nil, "TLSConfig: MaxVersion is TLS 1.1"},
		"unreadable files beside wrong names": {&Config{Endpoints: []string{""}, CAFile: f.missing}, fs.ErrNotExist, `endpoint "": is empty`},
	})
}

func TestValidateRefusesUnusableKeys(t *testing.T) {
	t.Parallel()
	key := func(k []byte) *Config { return new(Config).WithEncryption(k) }
	encrypted := func() *Config { return new(Config).WithEncryption([]byte("0123456789abcdef")) }
	ring, err := NewKeyring(keyNumber(t, 1))
	require.NoError(t, err)
	requireEachRefused(t, map[string]refusal{
		"nil encryption key":                {key(nil), ErrInvalidKey, "EncryptionKey: "},
		"empty encryption key":              {key([]byte{}), ErrInvalidKey, "EncryptionKey: "},
		"empty encryption key in the field": {&Config{EncryptionKey: []byte{}}, ErrInvalidKey, "EncryptionKey: "},
		"short encryption key":              {key([]byte("15 bytes of key")), ErrInvalidKey, "15"},
		"long encryption key":               {key([]byte(strings.Repeat("k", 4097))), ErrInvalidKey, "4097"},
		"all-zero encryption key":           {key(make([]byte, 32)), ErrInvalidKey, "zero"},
		"nil ring":                          {new(Config).WithKeyring(nil), ErrInvalidKey, "Keyring: "},
		"nil ring beside a key":             {encrypted().WithKeyring(nil), ErrInvalidKey, "Keyring: "},
		"empty ring":                        {new(Config).WithKeyring(&Keyring{}), ErrInvalidKey, "Keyring: "},
		"empty ring in the field":           {&Config{Keyring: &Keyring{}}, ErrInvalidKey, "Keyring: "},
		"nil AEAD":                          {new(Config).WithAEAD(KeyID{1}, nil), ErrInvalidKey, "Keyring: "},
		"nil AEAD after a ring":             {new(Config).WithKeyring(ring).WithAEAD(KeyID{1}, nil), ErrInvalidKey, "Keyring: "},
		"nil AEAD beside a key":             {encrypted().WithAEAD(KeyID{1}, nil), ErrInvalidKey, "Keyring: "},
		"ring and key":                      {encrypted().WithKeyring(ring), nil, "Keyring is set together with EncryptionKey"},
		"ring and no key":                   {key(nil).WithKeyring(ring), ErrInvalidKey, "EncryptionKey: "},
		"ring and key in the fields":        {&Config{Keyring: ring, EncryptionKey: make([]byte, 1)}, nil, "Keyring is set together with EncryptionKey"},
		"nil legacy key":                    {encrypted().WithLegacyKey(nil, ""), ErrInvalidKey, "LegacyKey: "},
		"empty legacy key in the field":     {&Config{EncryptionKey: []byte("0123456789abcdef"), LegacyKey: []byte{}}, ErrInvalidKey, "LegacyKey: "},
	})
}

func TestValidateRefusesUnusablePolicies(t *testing.T) {
	t.Parallel()
	encrypted := func() *Config { return new(Config).WithEncryption([]byte("0123456789abcdef")) }
	requireEachRefused(t, map[string]refusal{
		"provider without a key":             {new(Config).WithKeyProvider(&providerFunc{}), nil, "KeyProvider is set without a key"},
		"context without a key":              {new(Config).WithAssociatedContext([]byte("c")), nil, "AssociatedContext is set without a key"},
		"plaintext reads without a key":      {new(Config).WithPlaintextReads(""), nil, "PlaintextReads is set without a key"},
		"plaintext writes without a key":     {new(Config).WithPlaintextWrites("a"), nil, "PlaintextWrites is set without a key"},
		"unencrypted prefixes without a key": {new(Config).WithUnencryptedPrefixes("a"), nil, "UnencryptedPrefixes is set without a key"},
		"legacy key without a key":           {new(Config).WithLegacyKey([]byte("k"), ""), nil, "LegacyKey is set without a key"},
		"two policies without a key":         {new(Config).WithPlaintextReads("").WithUnencryptedPrefixes("a"), nil, "PlaintextReads is set without a key; UnencryptedPrefixes is set"},
		"legacy key for no prefix":           {encrypted().WithLegacyKey([]byte("k")), nil, "LegacyPrefixes: LegacyKey is set without one"},
		"legacy prefix without its key":      {&Config{EncryptionKey: []byte("0123456789abcdef"), LegacyPrefixes: []string{"a"}}, nil, "LegacyPrefixes: set without LegacyKey"},
		"empty unencrypted prefix":           {encrypted().WithUnencryptedPrefixes("a", ""), nil, "UnencryptedPrefixes: one is empty"},
	})
}

func TestValidateRefusesANilHook(t *testing.T) {
	t.Parallel()
	requireEachRefused(t, map[string]refusal{
		"nil hook": {new(Config).WithHooks(silentHook{}, nil), nil, "Hooks: number 1 is nil"},
	})
}

// What can be read at no time is refused before anything is connected to.
func TestValidateSaysThatAKeyIsEncrypted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, _ := dialtest.WritePair(t, dir, dialtest.NewAuthority(t).Issue())
	block := &pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("secret")}
	key := dialtest.WriteFile(t, dir, "pkcs8.pem", pem.EncodeToMemory(block))
	err := new(Config).WithTLS(cert, key, "", false).Validate()
	require.ErrorIs(t, err, ErrInvalidConfig)
	require.ErrorContains(t, err, "pkcs8.pem: the private key is encrypted with a passphrase")
	assert.NotContains(t, err.Error(), "secret")
}

func TestValidateAcceptsWhatMakesSense(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	with := func(endpoints ...string) *Config { return new(Config).WithEndpoints(endpoints...) }
	ring, err := NewKeyring(keyNumber(t, 1))
	require.NoError(t, err)
	onlyReads, err := NewKeyring(nil, keyNumber(t, 1))
	require.NoError(t, err)
	for name, c := range map[string]*Config{
		"nil":                       nil,
		"zero":                      {},
		"default":                   DefaultConfig(),
		"plaintext forms together":  with("a:1", "http://b:1", "unix:///s", "unix:s"),
		"TLS forms together":        with("a:1", "https://b:1", "unixs:///s").WithTLS("", "", "", false),
		"https alone":               with("https://a:1"),
		"https required":            with("https://a:1").WithRequireTLS(),
		"bare with TLS required":    with("a:1").WithTLS("", "", "", false).WithRequireTLS(),
		"mutual TLS":                new(Config).WithTLS(f.cert, f.key, f.ca, false).WithServerName("x"),
		"TLSConfig and a name":      new(Config).WithTLSConfig(&tls.Config{MaxVersion: tls.VersionTLS12}).WithServerName("x"),
		"keep-alive of 10 s":        new(Config).WithKeepAlive(10*time.Second, time.Millisecond),
		"token alone":               new(Config).WithToken("t"),
		"smallest compression":      new(Config).WithCompression(1024),
		"shortest encryption key":   new(Config).WithEncryption([]byte("0123456789abcdef")),
		"longest encryption key":    new(Config).WithEncryption([]byte(strings.Repeat("k", 4096))),
		"ring":                      new(Config).WithKeyring(ring),
		"ring in the field":         {Keyring: ring},
		"ring that only reads":      new(Config).WithKeyring(onlyReads),
		"AEAD":                      new(Config).WithAEAD(KeyID{1}, nothing{}),
		"policies without anything": new(Config).WithAssociatedContext(nil).WithPlaintextReads().WithPlaintextWrites().WithUnencryptedPrefixes(),
		"policies of a ring": new(Config).WithKeyring(ring).WithAssociatedContext([]byte("c")).WithPlaintextReads("").
			WithPlaintextWrites("").WithUnencryptedPrefixes("a").WithLegacyKey([]byte("k"), "").WithKeyProvider(&providerFunc{}),
		"namespace with room":       new(Config).WithNamespace("1234").WithMaxKeyBytes(5),
		"credentials over the wire": with("http://etcd.example:1").WithAuth("u", "p"),
	} {
		assert.NoError(t, c.Validate(), name)
	}
}

func TestValidateNamesEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing.pem")
	err := new(Config).WithEndpoints("::::", "ftp://x").WithTimeout(-1).WithKeepAlive(1, -1).
		WithAuth("u", "").WithTLS(missing, missing+".key", missing+".ca", false).WithEncryption(nil).WithCompression(1).
		WithMaxTxnOps(-1).WithHooks(nil).Validate()
	for _, text := range []string{
		`"::::"`, `"ftp://x"`, "RequestTimeout", "KeepAliveInterval", "KeepAliveTimeout", "Password",
		"CertFile", missing + ".key", missing + ".ca", "EncryptionKey", "CompressionMinSize", "MaxTxnOps", "Hooks",
	} {
		assert.ErrorContains(t, err, text)
	}
	assert.ErrorIs(t, err, ErrInvalidConfig)
	assert.ErrorIs(t, err, ErrInvalidKey)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	path, ok := errors.AsType[*fs.PathError](err)
	require.True(t, ok)
	assert.Equal(t, missing, path.Path)
}

func TestValidateNeverQuotesASecret(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{
		"http://u:hunter2@h:1", "http://u:hunter2@h", "u:hunter2@h:1", "u:hunter2@h", "u@h:hunter2@", "http://u:hun/hunter2@h:1",
		"hunter2://@h:1", "https://hunter2@", "http://u:%zzhunter2@h:1",
	} {
		err := new(Config).WithEndpoints(endpoint, "https://other:1").WithAuth("", "hunter2").WithToken("hunter2").
			WithEncryption([]byte("hunter2")).WithKeyring(nil).WithLegacyKey(nil, "").Validate()
		require.ErrorIs(t, err, ErrInvalidConfig)
		if !strings.HasPrefix(endpoint, "hunter2://") { // the scheme is no secret
			assert.NotContains(t, err.Error(), "hunter2", endpoint)
		}
	}
}

func TestValidateLeavesTheConfigAsItIs(t *testing.T) {
	t.Parallel()
	c := Config{}
	require.NoError(t, c.Validate())
	assert.Empty(t, c)
}
