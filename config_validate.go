package etcd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/blueprint-go/etcd/internal/dial"
	"github.com/blueprint-go/etcd/internal/errs"
)

const (
	// gRPC raises a shorter interval to this (grpc, internal.KeepaliveMinPingTime),
	// and a server's own minimum is 5 seconds.
	minKeepAliveInterval = 10 * time.Second

	// Below this the frame around a compressed value eats most of the gain.
	minCompressionSize = 1024
)

// Validate reports every problem of c at once; nil means that there is none. A nil c
// stands for the defaults and is valid. The error matches [ErrInvalidConfig] and the
// underlying errors: [ErrInvalidKey] for the encryption key, [io/fs.ErrNotExist] and the
// like for files. It reads the TLS files, but doesn't use the network. [NewClient] calls
// it.
func (c *Config) Validate() error {
	if c == nil {
		return nil
	}
	c = c.revealed()
	var problems []error
	for _, r := range rules {
		if err := r.check(c); err != nil {
			problems = append(problems, &problem{field: r.field, err: err, reason: r.reason})
		}
	}
	if problems == nil {
		return nil
	}
	return &invalidConfig{problems}
}

// rule is one thing that can be wrong with a Config.
type rule struct {
	field  string
	reason string // why it is a rule, for the error; may be empty if that is obvious
	check  func(*Config) error
}

var rules = []rule{
	{"Endpoints", "nil would mean the default, an empty list is a look-up that found nothing", checkSomeEndpoint},
	{"Endpoints", "", checkEndpoints},
	{"Endpoints", "one connection pool speaks either TLS or plaintext", checkOneTransport},
	{"Endpoints", "plaintext was asked for and TLS as well", checkNoPlaintextWithTLS},
	{"RequireTLS", "use https:// or set a TLS field", checkRequiredTLS},

	{"RequireTLS", "anybody in between could take the credentials", checkVerifiedTLS},

	{"DiscoverySRV", "one of them would be ignored", notBoth("DiscoverySRV", "Endpoints", func(c *Config) bool {
		return c.DiscoverySRV != "" && c.Endpoints != nil
	})},
	{"DiscoverySRV", "there is nothing to look up", checkDiscovery},

	{"DialTimeout", "", checkDuration(func(c *Config) time.Duration { return c.DialTimeout })},
	{"RequestTimeout", "", checkDuration(func(c *Config) time.Duration { return c.RequestTimeout })},
	{"KeepAliveInterval", "gRPC pings no faster, and servers close connections that ping too often", checkKeepAlive},
	{"KeepAliveTimeout", "", checkDuration(func(c *Config) time.Duration { return c.KeepAliveTimeout })},
	{"AutoSyncInterval", "", checkDuration(func(c *Config) time.Duration { return c.AutoSyncInterval })},

	{"Password", "the server would treat the client as nobody", both("Username", "Password", func(c *Config) (string, string) { return c.Username, c.Password })},
	{"Token", "one of them would be ignored", notBoth("Token", "Username", func(c *Config) bool {
		return c.Token != "" && (c.Username != "" || c.Password != "")
	})},

	{"Credentials", "one of them would be ignored", checkCredentialSources},

	{"CertFile", "a certificate is of no use without its key", both("CertFile", "KeyFile", func(c *Config) (string, string) { return c.CertFile, c.KeyFile })},
	{"TLSConfig", "one of them would be ignored", notBoth("TLSConfig", "CertFile, KeyFile or CAFile", func(c *Config) bool {
		return c.TLSConfig != nil && c.hasTLSFile()
	})},
	{"TLSConfig", "HTTP/2 needs TLS 1.2", checkTLSVersion},
	{"CertFile", "", checkKeyPair},
	{"CAFile", "", checkAuthorities},

	{"EncryptionKey", "it never means plaintext", checkEncryptionKey},
	{"Keyring", "it never means plaintext", checkKeyring},
	{"Keyring", "one of them would be ignored", notBoth("Keyring", "EncryptionKey", func(c *Config) bool {
		return c.hasKeyring() && c.hasKey()
	})},
	{"EncryptionKey", "without encryption nothing would come of it", checkEncryptionPolicy},
	{"LegacyKey", "it is most often an unset variable", checkLegacyKey},
	{"LegacyPrefixes", "values of the Blueprint provider are bound to no key", checkLegacyPrefixes},
	{"UnencryptedPrefixes", "it would switch encryption off", checkUnencryptedPrefixes},
	{"CompressionMinSize", "smaller values grow rather than shrink; 0 in the field means off", checkCompression},
	{"MaxRequestBytes", "", notNegative(func(c *Config) int { return c.MaxRequestBytes })},
	{"MaxTxnOps", "", notNegative(func(c *Config) int { return c.MaxTxnOps })},
	{"MaxKeyBytes", "", notNegative(func(c *Config) int { return c.MaxKeyBytes })},
	{"Namespace", "no room is left for a key", checkNamespace},
	{"Hooks", "", checkHooks},
}

func notNegative(field func(*Config) int) func(*Config) error {
	return func(c *Config) error {
		if v := field(c); v < 0 {
			return fmt.Errorf("%d is below 0", v)
		}
		return nil
	}
}

// minDuration is the shortest duration of a Config, except 0. A shorter one is a bare
// number that was meant in another unit: WithTimeout(5) compiles.
const minDuration = time.Millisecond

func checkDuration(field func(*Config) time.Duration) func(*Config) error {
	return func(c *Config) error { return plausible(field(c)) }
}

func plausible(d time.Duration) error {
	switch {
	case d < 0:
		return fmt.Errorf("%v is below 0", d)
	case d > 0 && d < minDuration:
		return fmt.Errorf("%v is below %v; a bare number counts nanoseconds, did you mean %d*time.Second?", d, minDuration, int64(d))
	}
	return nil
}

func both(first, second string, fields func(*Config) (string, string)) func(*Config) error {
	return func(c *Config) error {
		switch a, b := fields(c); {
		case a != "" && b == "":
			return fmt.Errorf("%s is set without %s", first, second)
		case a == "" && b != "":
			return fmt.Errorf("%s is set without %s", second, first)
		}
		return nil
	}
}

func notBoth(first, second string, conflict func(*Config) bool) func(*Config) error {
	return func(c *Config) error {
		if conflict(c) {
			return fmt.Errorf("%s is set together with %s", first, second)
		}
		return nil
	}
}

func checkSomeEndpoint(c *Config) error {
	if c.Endpoints != nil && len(c.Endpoints) == 0 {
		return errors.New("no endpoints")
	}
	return nil
}

func checkEndpoints(c *Config) error {
	var causes []error
	for _, raw := range c.Endpoints {
		if _, err := dial.ParseEndpoint(raw); err != nil {
			causes = append(causes, err)
		}
	}
	return errs.Join(causes)
}

func checkOneTransport(c *Config) error {
	secure, plain := c.byTransport()
	if len(secure) == 0 || len(plain) == 0 {
		return nil
	}
	return fmt.Errorf("%s are TLS and %s plaintext", strings.Join(secure, ", "), strings.Join(plain, ", "))
}

// checkNoPlaintextWithTLS refuses endpoints for which clientv3 would silently drop the
// certificates and send the password in plaintext.
func checkNoPlaintextWithTLS(c *Config) error {
	if _, plain := c.byTransport(); len(plain) > 0 && c.usesTLS() {
		return fmt.Errorf("%s would ignore the TLS settings", strings.Join(plain, ", "))
	}
	return nil
}

func checkRequiredTLS(c *Config) error {
	if _, plain := c.byTransport(); len(plain) > 0 && c.RequireTLS {
		return fmt.Errorf("TLS is required and %s would be plaintext", strings.Join(plain, ", "))
	}
	return nil
}

// checkVerifiedTLS refuses unverified servers: for a password, TLS with anybody is no
// better than plaintext.
func checkVerifiedTLS(c *Config) error {
	if c.RequireTLS && c.hasCredentials() && c.skipsVerification() {
		return errors.New("TLS is required, and certificates are not verified")
	}
	return nil
}

// byTransport returns the names of the well-formed endpoints that use TLS and of those
// that don't.
func (c *Config) byTransport() (secure, plain []string) {
	for _, e := range c.endpoints() {
		if e.IsTLS(c.usesTLS()) {
			secure = append(secure, e.Name())
		} else {
			plain = append(plain, e.Name())
		}
	}
	return secure, plain
}

func checkKeepAlive(c *Config) error {
	d := c.KeepAliveInterval
	if err := plausible(d); err != nil {
		return err
	}
	if d != 0 && d < minKeepAliveInterval {
		return fmt.Errorf("%v is below %v", d, minKeepAliveInterval)
	}
	return nil
}

func checkTLSVersion(c *Config) error {
	if t := c.TLSConfig; t != nil && t.MaxVersion != 0 && t.MaxVersion < tls.VersionTLS12 {
		return fmt.Errorf("MaxVersion is %s", tls.VersionName(t.MaxVersion))
	}
	return nil
}

func checkKeyPair(c *Config) error {
	if c.CertFile == "" || c.KeyFile == "" {
		return nil
	}
	_, err := dial.ReadKeyPair(c.CertFile, c.KeyFile)
	return err
}

func checkAuthorities(c *Config) error {
	if c.CAFile == "" {
		return nil
	}
	_, err := dial.ReadAuthorities(c.CAFile)
	return err
}

func checkCompression(c *Config) error {
	if n := c.CompressionMinSize; n < minCompressionSize && (n != 0 || c.compress) {
		return fmt.Errorf("%d bytes is below %d", n, minCompressionSize)
	}
	return nil
}

func checkNamespace(c *Config) error {
	limit := c.MaxKeyBytes
	if limit == 0 {
		limit = DefaultMaxKeyBytes
	}
	if n := len(c.Namespace); n > 0 && n >= limit {
		return fmt.Errorf("%d bytes of at most %d for a whole key", n, limit)
	}
	return nil
}

func checkHooks(c *Config) error {
	if i := slices.Index(c.Hooks, nil); i >= 0 {
		return fmt.Errorf("number %d is nil", i)
	}
	return nil
}

// problem is one field of a Config that can't be used.
type problem struct {
	field  string
	err    error
	reason string
}

func (p *problem) Error() string {
	text := p.field + ": " + p.err.Error()
	if p.reason != "" {
		text += " (" + p.reason + ")"
	}
	return text
}

func (p *problem) Unwrap() error { return p.err }

// invalidConfig is all problems of one Config, in one line.
type invalidConfig struct{ problems []error }

func (e *invalidConfig) Error() string {
	return "etcd: " + ErrInvalidConfig.Error() + ": " + errs.Join(e.problems).Error()
}

func (e *invalidConfig) Unwrap() []error { return append([]error{ErrInvalidConfig}, e.problems...) }

// resolved returns the configuration that the client uses: a copy that shares nothing
// with c, checked, with the defaults filled in. A nil c means the defaults.
func (c *Config) resolved() (*Config, error) {
	if c == nil {
		c = &Config{}
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := c.clone().withDefaults()
	if r.Logger == nil {
		r.Logger = slog.Default()
	}
	return r, nil
}

func checkDiscovery(c *Config) error {
	if c.DiscoverySRV != "" && !isDomain(c.DiscoverySRV) || c.DiscoverySRVName != "" && !isDomain(c.service(servicePlaintext)) {
		return errors.New("is no name of DNS") // and would be quoted
	}
	if c.DiscoverySRVName != "" && c.DiscoverySRV == "" {
		return errors.New("DiscoverySRVName is set without DiscoverySRV")
	}
	return nil
}

func checkCredentialSources(c *Config) error {
	set := 0
	for _, is := range []bool{c.Username != "" || c.Password != "", c.Token != "", c.Credentials != nil, c.TokenSource != nil} {
		if is {
			set++
		}
	}
	if set > 1 && (c.Credentials != nil || c.TokenSource != nil) {
		return errors.New("more than one of Username, Token, Credentials and TokenSource is set")
	}
	return nil
}
