package etcd

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/blueprint-go/etcd/internal/secret"
)

// The methods below have value receivers, unlike the setters, so that a Config passed by
// value is as discreet as a *Config.

// String returns every field that is set, with secrets redacted.
func (c Config) String() string {
	var b strings.Builder
	b.WriteString("etcd.Config{")
	for i, a := range c.attrs() {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s:%v", a.Key, a.Value)
	}
	b.WriteByte('}')
	return b.String()
}

// Format prints the same as String for every verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue returns every field that is set, with secrets redacted.
func (c Config) LogValue() slog.Value { return slog.GroupValue(c.attrs()...) }

// MarshalJSON returns every field that is set, with secrets redacted. The result is for
// reports and can't be read back.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.fields()) }

// MarshalYAML returns the same fields as MarshalJSON, for the YAML packages that
// look for this method.
func (c Config) MarshalYAML() (any, error) { return c.fields(), nil }

// MarshalText returns the same as String, for encoders that know no other method.
func (c Config) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

func (c Config) fields() map[string]any {
	fields := make(map[string]any)
	for _, a := range c.attrs() {
		fields[a.Key] = a.Value.Any()
		if a.Value.Kind() == slog.KindDuration {
			fields[a.Key] = a.Value.String()
		}
	}
	return fields
}

// attrs lists the fields that are set. Each is named here, so that a new field prints
// only once somebody has thought about whether it may.
func (c Config) attrs() []slog.Attr {
	c = *c.revealed() // to tell which are set
	var names []string
	for _, e := range c.Endpoints {
		names = append(names, secret.Shown(secret.WithoutUserinfo(e)))
	}
	all := []struct {
		set  bool
		attr slog.Attr
	}{
		{c.Endpoints != nil, slog.Any("Endpoints", names)},
		{c.DiscoverySRV != "", slog.String("DiscoverySRV", secret.Shown(c.DiscoverySRV))},
		{c.DiscoverySRVName != "", slog.String("DiscoverySRVName", secret.Shown(c.DiscoverySRVName))},
		{c.Resolver != nil, slog.Bool("Resolver", true)},
		{c.DialTimeout != 0, slog.Duration("DialTimeout", c.DialTimeout)},
		{c.RequestTimeout != 0, slog.Duration("RequestTimeout", c.RequestTimeout)},
		{c.KeepAliveInterval != 0, slog.Duration("KeepAliveInterval", c.KeepAliveInterval)},
		{c.KeepAliveTimeout != 0, slog.Duration("KeepAliveTimeout", c.KeepAliveTimeout)},
		{c.AutoSyncInterval != 0, slog.Duration("AutoSyncInterval", c.AutoSyncInterval)},
		{c.Username != "", slog.String("Username", secret.WithoutPassword(c.Username))},
		{c.Password != "", slog.String("Password", secret.Redacted)},
		{c.Token != "", slog.String("Token", secret.Redacted)},
		{c.Credentials != nil, slog.Bool("Credentials", true)},
		{c.TokenSource != nil, slog.Bool("TokenSource", true)},
		{c.CertFile != "", slog.String("CertFile", secret.Shown(c.CertFile))},
		{c.KeyFile != "", slog.String("KeyFile", secret.Shown(c.KeyFile))},
		{c.CAFile != "", slog.String("CAFile", secret.Shown(c.CAFile))},
		{c.ServerName != "", slog.String("ServerName", secret.Shown(c.ServerName))},
		{c.InsecureSkipVerify, slog.Bool("InsecureSkipVerify", true)},
		{c.TLSConfig != nil, slog.String("TLSConfig", secret.Redacted)},
		{c.RequireTLS, slog.Bool("RequireTLS", true)},
		{c.hasKey(), slog.String("EncryptionKey", secret.Redacted)},
		{c.hasKeyring(), slog.String("Keyring", c.Keyring.String())},
		{c.KeyProvider != nil, slog.Bool("KeyProvider", true)},
		{len(c.AssociatedContext) > 0, slog.String("AssociatedContext", secret.Shown(string(c.AssociatedContext)))},
		{len(c.PlaintextReads) > 0, slog.Any("PlaintextReads", secret.AllShown(c.PlaintextReads))},
		{len(c.PlaintextWrites) > 0, slog.Any("PlaintextWrites", secret.AllShown(c.PlaintextWrites))},
		{len(c.UnencryptedPrefixes) > 0, slog.Any("UnencryptedPrefixes", secret.AllShown(c.UnencryptedPrefixes))},
		{c.LegacyKey != nil, slog.String("LegacyKey", secret.Redacted)},
		{len(c.LegacyPrefixes) > 0, slog.Any("LegacyPrefixes", secret.AllShown(c.LegacyPrefixes))},
		{c.CompressionMinSize != 0, slog.Int("CompressionMinSize", c.CompressionMinSize)},
		{c.Namespace != "", slog.String("Namespace", secret.Shown(c.Namespace))},
		{c.MaxRequestBytes != 0, slog.Int("MaxRequestBytes", c.MaxRequestBytes)},
		{c.MaxTxnOps != 0, slog.Int("MaxTxnOps", c.MaxTxnOps)},
		{c.MaxKeyBytes != 0, slog.Int("MaxKeyBytes", c.MaxKeyBytes)},
		{c.Batching, slog.Bool("Batching", true)},
		{c.BatchInFlight != 0, slog.Int("BatchInFlight", c.BatchInFlight)},
		{c.LazyConnect, slog.Bool("LazyConnect", true)},
		{c.Dialer != nil, slog.Bool("Dialer", true)},
		{c.Logger != nil, slog.Bool("Logger", true)},
		{len(c.Hooks) > 0, slog.Int("Hooks", len(c.Hooks))},
	}
	var attrs []slog.Attr
	for _, a := range all {
		if a.set {
			attrs = append(attrs, a.attr)
		}
	}
	return attrs
}
