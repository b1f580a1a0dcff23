package etcd

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type silentHook struct{ Hook }

func TestEachSetterSetsItsFieldAndReturnsConfig(t *testing.T) {
	t.Parallel()
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
	logger, settings := slog.New(slog.DiscardHandler), &tls.Config{ServerName: "x"}
	hook, provider := silentHook{}, &providerFunc{}
	ring, err := NewKeyring(keyNumber(t, 1))
	require.NoError(t, err)
	for name, row := range map[string]struct {
		set  func(*Config) *Config
		want Config
	}{
		"WithEndpoints":   {func(c *Config) *Config { return c.WithEndpoints("a:1", "b:2") }, Config{Endpoints: []string{"a:1", "b:2"}}},
		"WithTimeout":     {func(c *Config) *Config { return c.WithTimeout(time.Second) }, Config{RequestTimeout: time.Second}},
		"WithDialTimeout": {func(c *Config) *Config { return c.WithDialTimeout(time.Second) }, Config{DialTimeout: time.Second}},
		"WithKeepAlive":   {func(c *Config) *Config { return c.WithKeepAlive(1, 2) }, Config{KeepAliveInterval: 1, KeepAliveTimeout: 2}},
		"WithAutoSync":    {func(c *Config) *Config { return c.WithAutoSync(1) }, Config{AutoSyncInterval: 1}},
		"WithAuth":        {func(c *Config) *Config { return c.WithAuth("u", "p") }, Config{Username: "u", Password: "p"}},
		"WithToken":       {func(c *Config) *Config { return c.WithToken("t") }, Config{Token: "t"}},
		"WithTLS":         {func(c *Config) *Config { return c.WithTLS("c", "k", "a", true) }, Config{CertFile: "c", KeyFile: "k", CAFile: "a", InsecureSkipVerify: true, tls: true}},
		"WithTLSConfig":   {func(c *Config) *Config { return c.WithTLSConfig(settings) }, Config{TLSConfig: settings, tls: true}},
		"WithServerName":  {func(c *Config) *Config { return c.WithServerName("n") }, Config{ServerName: "n"}},
		"WithRequireTLS":  {func(c *Config) *Config { return c.WithRequireTLS() }, Config{RequireTLS: true}},
		"WithEncryption":  {func(c *Config) *Config { return c.WithEncryption([]byte("k")) }, Config{EncryptionKey: []byte("k"), encrypt: true}},
		"WithKeyring":     {func(c *Config) *Config { return c.WithKeyring(ring) }, Config{Keyring: ring, ring: true}},
		"WithKeyProvider": {func(c *Config) *Config { return c.WithKeyProvider(provider) }, Config{KeyProvider: provider}},
		"WithAssociatedContext": {
			func(c *Config) *Config { return c.WithAssociatedContext([]byte("c")) },
			Config{AssociatedContext: []byte("c")},
		},
		"WithPlaintextReads":      {func(c *Config) *Config { return c.WithPlaintextReads("a", "") }, Config{PlaintextReads: []string{"a", ""}}},
		"WithPlaintextWrites":     {func(c *Config) *Config { return c.WithPlaintextWrites("a", "") }, Config{PlaintextWrites: []string{"a", ""}}},
		"WithUnencryptedPrefixes": {func(c *Config) *Config { return c.WithUnencryptedPrefixes("a") }, Config{UnencryptedPrefixes: []string{"a"}}},
		"WithLegacyKey":           {func(c *Config) *Config { return c.WithLegacyKey([]byte("k"), "a", "") }, Config{LegacyKey: []byte("k"), LegacyPrefixes: []string{"a", ""}}},
		"WithCompression":         {func(c *Config) *Config { return c.WithCompression(1) }, Config{CompressionMinSize: 1, compress: true}},
		"WithNamespace":           {func(c *Config) *Config { return c.WithNamespace("n/") }, Config{Namespace: "n/"}},
		"WithMaxRequestBytes":     {func(c *Config) *Config { return c.WithMaxRequestBytes(1) }, Config{MaxRequestBytes: 1}},
		"WithMaxTxnOps":           {func(c *Config) *Config { return c.WithMaxTxnOps(1) }, Config{MaxTxnOps: 1}},
		"WithMaxKeyBytes":         {func(c *Config) *Config { return c.WithMaxKeyBytes(1) }, Config{MaxKeyBytes: 1}},
		"WithLazyConnect":         {func(c *Config) *Config { return c.WithLazyConnect() }, Config{LazyConnect: true}},
		"WithLogger":              {func(c *Config) *Config { return c.WithLogger(logger) }, Config{Logger: logger}},
		"WithHooks":               {func(c *Config) *Config { return c.WithHooks(hook) }, Config{Hooks: []Hook{hook}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := new(Config)
			assert.Same(t, c, row.set(c))
			//nolint:govet // no error is held in it; functions are, which assert.Equal refuses
			assert.True(t, reflect.DeepEqual(row.want, *c.revealed()), "got %v, want %v", *c, row.want)
		})
	}
	c := new(Config).WithDialer(dial)
	_, err = c.Dialer(t.Context(), "", "")
	assert.ErrorIs(t, err, net.ErrClosed)
}

func TestZeroNilAndDefaultConfigResolveAlike(t *testing.T) {
	t.Parallel()
	want := &Config{
		Endpoints:         []string{"localhost:2379"},
		DialTimeout:       5 * time.Second,
		RequestTimeout:    5 * time.Second,
		KeepAliveInterval: 10 * time.Second,
		KeepAliveTimeout:  3 * time.Second,
		MaxRequestBytes:   1536 * 1024,
		MaxTxnOps:         128,
		MaxKeyBytes:       64 * 1024,
		Logger:            slog.Default(),
	}
	for name, c := range map[string]*Config{"nil": nil, "zero": {}, "default": DefaultConfig()} {
		r, err := c.resolved()
		require.NoError(t, err, name)
		assert.Equal(t, want, r, name)
	}
}

func TestResolvedConfigSharesNothingWithTheCallers(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef")
	c := DefaultConfig().WithEndpoints("a:1").WithEncryption(key).WithHooks(silentHook{}).
		WithTLSConfig(&tls.Config{ServerName: "before"}).WithLegacyKey(key, "").WithAssociatedContext(key).
		WithPlaintextReads("a").WithPlaintextWrites("b").WithUnencryptedPrefixes("c")
	r, err := c.resolved()
	require.NoError(t, err)
	c.AssociatedContext[1], c.PlaintextReads[0], c.PlaintextWrites[0], c.UnencryptedPrefixes[0] = 'X', "", "", ""
	assert.Equal(t, "0123456789abcdef", string(r.LegacyKey))
	assert.Equal(t, "0123456789abcdef", string(r.AssociatedContext))
	assert.Equal(t, []string{"a", "b", "c"}, slices.Concat(r.PlaintextReads, r.PlaintextWrites, r.UnencryptedPrefixes))

	key[0] = 'X'
	c.Endpoints[0], c.Hooks[0], c.TLSConfig.ServerName = "b:2", nil, "after"
	assert.Equal(t, []string{"a:1"}, r.Endpoints)
	assert.Equal(t, "0123456789abcdef", string(r.EncryptionKey))
	assert.NotNil(t, r.Hooks[0])
	assert.Equal(t, "before", r.TLSConfig.ServerName)
}

func TestSettersCopyWhatTheyAreGiven(t *testing.T) {
	t.Parallel()
	endpoints, key, hooks := []string{"a:1"}, []byte("0123456789abcdef"), []Hook{silentHook{}}
	prefixes := []string{"a"}
	c := new(Config).WithEndpoints(endpoints...).WithEncryption(key).WithHooks(hooks...).WithLegacyKey(key).
		WithAssociatedContext(key).WithPlaintextReads(prefixes...).WithPlaintextWrites(prefixes...).WithUnencryptedPrefixes(prefixes...)
	endpoints[0], key[0], hooks[0], prefixes[0] = "b:2", 'X', nil, ""
	assert.Equal(t, "0123456789abcdef", string(c.revealed().LegacyKey))
	assert.Equal(t, "0123456789abcdef", string(c.AssociatedContext))
	assert.Equal(t, []string{"a", "a", "a"}, slices.Concat(c.PlaintextReads, c.PlaintextWrites, c.UnencryptedPrefixes))
	assert.Equal(t, "a:1", c.Endpoints[0])
	assert.Equal(t, "0123456789abcdef", string(c.revealed().EncryptionKey))
	assert.NotNil(t, c.Hooks[0])
}

func TestResolvingAnInvalidConfigFails(t *testing.T) {
	t.Parallel()
	_, err := DefaultConfig().WithTimeout(-1).resolved()
	assert.ErrorIs(t, err, ErrInvalidConfig)
}

func TestSettingAnyKeyAsksForEncryption(t *testing.T) {
	t.Parallel()
	assert.False(t, new(Config).encrypts())
	assert.True(t, new(Config).WithEncryption(nil).encrypts())
	assert.True(t, (&Config{EncryptionKey: []byte{}}).encrypts())
	assert.True(t, new(Config).WithKeyring(nil).encrypts())
	assert.True(t, new(Config).WithAEAD(KeyID{}, nil).encrypts())
	assert.True(t, (&Config{Keyring: &Keyring{}}).encrypts())
}

func TestPlaintextCredentialsAreNamedUnlessLocal(t *testing.T) {
	t.Parallel()
	plain := []string{"localhost:1", "127.0.0.2:1", "[::1]:1", "unix:///s", "10.0.0.1:1", "http://etcd.example:1", "http://[fe80::1%25eth0]:1"}
	far := plain[4:]
	assert.Empty(t, new(Config).WithEndpoints(plain...).plaintextCredentials(), "without credentials")
	assert.Equal(t, far, new(Config).WithEndpoints(plain...).WithAuth("u", "p").plaintextCredentials())
	assert.Equal(t, far, new(Config).WithEndpoints(plain...).WithToken("t").revealed().plaintextCredentials())
	assert.Empty(t, new(Config).WithEndpoints("10.0.0.1:1").WithAuth("u", "p").WithTLS("", "", "", false).plaintextCredentials())
	assert.Empty(t, new(Config).WithEndpoints("https://10.0.0.1:1").WithAuth("u", "p").plaintextCredentials())
}
