package etcd

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/blueprint-go/etcd/internal/dial"
)

// Defaults of [Config], used by [DefaultConfig] and wherever a field is zero.
// The limits are the defaults of an etcd server.
const (
	DefaultEndpoint          = "localhost:2379"
	DefaultDialTimeout       = 5 * time.Second
	DefaultRequestTimeout    = 5 * time.Second
	DefaultKeepAliveInterval = 10 * time.Second
	DefaultKeepAliveTimeout  = 3 * time.Second
	DefaultMaxRequestBytes   = 1536 * 1024
	DefaultMaxTxnOps         = 128
	DefaultMaxKeyBytes       = 64 * 1024
)

// Config configures a [Client]. The zero value is usable and means the
// defaults, and so does a nil *Config. It is read once, by [NewClient]; the
// client keeps its own copy, so that a Config may be changed and used again
// afterwards. It is not safe for concurrent modification.
//
// Printing, logging and marshalling a Config or a *Config shows every secret as
// REDACTED. The setters of secrets ([Config.WithAuth], [Config.WithToken],
// [Config.WithEncryption], [Config.WithLegacyKey]) leave the fields empty and keep
// what they are given where no printer finds it, however the Config is held. What
// stands in a field is in plain memory, and shows where methods are not called: by
// package fmt in an unexported field of another struct, and by printers that look
// past methods. Use the setters therefore. A field that is set counts before what its
// setter was given; [ConfigFromEnv] fills the fields.
type Config struct {
	// Endpoints are the addresses of the cluster's members, in one of the forms
	//
	//	host:port, [ip6]:port        TLS if any TLS field is set, else plaintext
	//	https://host:port            TLS
	//	http://host:port             plaintext
	//	unixs:///path, unixs:path    TLS over a Unix socket
	//	unix:///path, unix:path      plaintext over a Unix socket
	//
	// Requests are spread over all of them. A port is always needed. All
	// endpoints must be TLS or all plaintext. Nil means [DefaultEndpoint]; an
	// empty list that is not nil is refused, because it is most often a lookup
	// that found nothing.
	Endpoints []string

	// DiscoverySRV is a domain whose SRV records name the endpoints, instead of
	// Endpoints, as by etcdctl's --discovery-srv: _etcd-client-ssl._tcp for TLS and
	// _etcd-client._tcp for plaintext, which counts only where the former doesn't
	// exist. DiscoverySRVName, if it is set, is appended to both services after a
	// hyphen. [NewClient] looks them up once, within DialTimeout, even with
	// LazyConnect; a look-up that fails or finds nothing is its error.
	//
	// The names of the servers come from DNS: whoever controls that can name a
	// server with a certificate of its own. Set ServerName to what all servers'
	// certificates hold, such as the domain, where that matters. Empty means that
	// Endpoints are used.
	DiscoverySRV     string
	DiscoverySRVName string

	// Resolver looks up the records of DiscoverySRV, and the addresses of host
	// names; with a Dialer that is left to the Dialer. Several addresses of a name
	// are tried in turn, a quarter of a second apart, without waiting for one
	// another; the first that answers is used. Nil means [net.DefaultResolver].
	Resolver *net.Resolver

	// DialTimeout is how long [NewClient] waits for the cluster's first answer,
	// authentication included. One attempt to connect to one endpoint is given
	// up after four fifths of this time or 4 seconds, whichever is less, so that
	// its cause is known by then. Defaults to [DefaultDialTimeout] when zero.
	DialTimeout time.Duration

	// RequestTimeout limits a request whose context has no deadline of its own,
	// all its retries included; a context's deadline replaces it, later or
	// earlier. Defaults to [DefaultRequestTimeout] when zero.
	RequestTimeout time.Duration

	// KeepAliveInterval is how long a connection may be silent before it is
	// tested with a ping. At least 10 seconds: gRPC pings no faster, and
	// servers close connections that ping too often. Defaults to
	// [DefaultKeepAliveInterval] when zero.
	KeepAliveInterval time.Duration

	// KeepAliveTimeout is how long the answer to such a ping may take before
	// the connection counts as lost. Together with KeepAliveInterval it bounds
	// how long an endpoint that silently vanished is still used. Defaults to
	// [DefaultKeepAliveTimeout] when zero.
	KeepAliveTimeout time.Duration

	// AutoSyncInterval is how often Endpoints is replaced by what the cluster
	// says its members' addresses are. They must be reachable from here under
	// the names the members advertise. A client of TLS speaks TLS with them, whatever
	// they advertise; credentials that go to one in plaintext are warned of like
	// those to a configured endpoint. Zero means never.
	AutoSyncInterval time.Duration

	// Username and Password authenticate by password; both or neither are set.
	// Not together with Token. Over plaintext to another host they can be
	// overheard, which [NewClient] logs as a warning, and RequireTLS refuses.
	Username string
	Password string

	// Token authenticates by a token obtained elsewhere, such as a JWT. It is
	// not renewed: when it expires, requests fail with [ErrUnauthenticated].
	// Not together with Username.
	Token string

	// Credentials returns the user name and the password, instead of Username and
	// Password, where they change while the client is in use. It is called whenever
	// a token is asked for: with the first request, and when the server no longer
	// accepts the last one, as it does after a password was changed. TokenSource
	// returns the token itself, instead of Token, and is called at the same times.
	//
	// Both must honour ctx; one call is made at a time. Their errors are
	// [ErrCredentials], with which the request fails at once, unsent; their texts
	// stand in errors, and must hold no secret. At most one of Username, Token,
	// Credentials and TokenSource is set. Nil means none.
	Credentials func(ctx context.Context) (user, password string, err error)
	TokenSource func(ctx context.Context) (token string, err error)

	// CertFile and KeyFile are paths of the client's certificate and its
	// private key in PEM; both or neither are set. CAFile is the path of the
	// authorities that may sign the servers' certificates, in PEM; empty means
	// those of the system. All three are read again for each connection, so
	// that a rotated file takes effect at the next one; while they can't be
	// read, or don't fit each other, the last good ones stay in use and a
	// warning is logged. Setting any of them turns TLS on for endpoints without
	// a scheme. Not together with TLSConfig.
	CertFile string
	KeyFile  string
	CAFile   string

	// ServerName is the name that the servers' certificates must be valid for.
	// Empty means TLSConfig's, and failing that the host of each endpoint: of a
	// Unix socket the last part of its path, as for clientv3. Setting it turns TLS
	// on for endpoints without a scheme.
	ServerName string

	// InsecureSkipVerify accepts any certificate, and with it anybody who can
	// stand in the way. With a password or a token [NewClient] logs a warning, and
	// RequireTLS refuses. Setting it turns TLS on for endpoints without a scheme.
	InsecureSkipVerify bool

	// TLSConfig replaces CertFile, KeyFile and CAFile for whatever they can't
	// express. It is cloned. ServerName and InsecureSkipVerify are applied on
	// top when set; the protocol version is at least TLS 1.2. Nil means none.
	TLSConfig *tls.Config

	// RequireTLS refuses any endpoint that would be spoken to in plaintext, and
	// credentials for a server whose certificate isn't verified. It only refuses:
	// TLS is turned on by https:// or one of the TLS fields.
	RequireTLS bool

	// EncryptionKey encrypts every value on its way into the cluster and
	// decrypts it on its way back. 16 to 4096 bytes, best random ones. Not
	// together with Keyring. Nil means no encryption when the field was never set
	// by [Config.WithEncryption]; a key that is empty, too short, too long or all
	// zero is refused with [ErrInvalidKey].
	EncryptionKey []byte

	// Keyring holds the keys instead of EncryptionKey, where there are several or
	// where they change while the client is in use. It is shared with the caller,
	// not copied. Nil means none.
	Keyring *Keyring

	// KeyProvider supplies keys that the keys above lack, when a value with one
	// is met. It puts them into Keyring, if that is set. Nil means none: such a
	// value is [ErrUnknownKey].
	KeyProvider KeyProvider

	// AssociatedContext is authenticated with every encrypted value and not
	// stored: a value that was written under one context does not open under
	// another. It separates clusters that share a key. Empty means none.
	AssociatedContext []byte

	// PlaintextReads are prefixes of keys whose values are read even if they are
	// not encrypted; everywhere else such a value is [ErrNotEncrypted]. It is for
	// the time of a migration: whoever can write to etcd can plant values under
	// these prefixes. Empty means none.
	PlaintextReads []string

	// PlaintextWrites are prefixes of keys whose values are written without
	// encryption and read with or without: the first step of a migration, until
	// every instance can decrypt. Empty means none.
	PlaintextWrites []string

	// UnencryptedPrefixes are prefixes of keys that encryption and compression
	// leave alone: their values are stored and read as they are, for readers that
	// know nothing of this format. Empty means none.
	UnencryptedPrefixes []string

	// LegacyKey is the key of values that the Blueprint provider encrypted. They
	// are read under LegacyPrefixes; nothing is written that way. Such a value bears
	// no mark: one that is damaged is [ErrDecrypt], but under PlaintextReads it
	// passes for plaintext. Nil means none; an empty key is refused with
	// [ErrInvalidKey].
	LegacyKey []byte

	// LegacyPrefixes are prefixes of keys under which LegacyKey reads; everywhere
	// else such a value is [ErrNotEncrypted]. It is for the time of a migration:
	// such a value is bound to no key, so that whoever can write to etcd can copy
	// it to any other under these prefixes, and where the provider has repeated a
	// nonce, can make up values of his own. LegacyKey needs at least one; "" means
	// every key.
	LegacyPrefixes []string

	// CompressionMinSize is the size in bytes from which values are compressed
	// before they are stored, at least 1024. Zero means no compression. Values
	// of any size that are compressed already are read with encryption in either
	// case; without encryption, a client that does not compress returns them as
	// they are stored.
	CompressionMinSize int

	// Namespace is put before every key on its way into the cluster and taken
	// off on its way back, so that clients of different namespaces don't see
	// each other's keys. It must leave room within MaxKeyBytes. Empty means
	// none.
	Namespace string

	// MaxRequestBytes is the largest request to send, in bytes, as the server
	// counts it: with some twenty of its own, and the name of the user. Larger
	// ones fail with [ErrTooLarge] before anything is sent. Match it with the
	// server's --max-request-bytes. Defaults to [DefaultMaxRequestBytes] when
	// zero.
	MaxRequestBytes int

	// MaxTxnOps is how many operations one transaction may hold; more fail with
	// [ErrTooManyOps] before anything is sent. Match it with the server's
	// --max-txn-ops; bulk calls and loads find out if that is lower. Defaults to
	// [DefaultMaxTxnOps] when zero.
	MaxTxnOps int

	// MaxKeyBytes is the longest key to send, in bytes, the namespace included;
	// longer ones fail with [ErrTooLarge] before anything is sent. Where a range
	// begins or ends is no key: a position behind the longest one is accepted. The
	// server has no limit of its own. Defaults to [DefaultMaxKeyBytes] when zero.
	MaxKeyBytes int

	// LazyConnect makes [NewClient] return without having reached the cluster.
	// The first request then meets whatever is wrong.
	LazyConnect bool

	// Dialer opens the connections, below TLS. The network is "tcp" or "unix",
	// the address a host and port or the path of a socket. It must honour ctx
	// and be safe for concurrent use. When a server hangs up on the client,
	// Dialer may be called once more to find out why. Nil means [net.Dialer],
	// for each address of a name as described at Resolver.
	// Either way the proxies of HTTPS_PROXY and similar variables are not used: gRPC leaves
	// them to its own dialer, which this one replaces.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)

	// Logger gets what no error can carry, such as a warning about credentials
	// in plaintext; never a secret or a value. Nil means [slog.Default].
	Logger *slog.Logger

	// Hooks observe each request, in this order before it and in the reverse
	// order after it. None may be nil.
	Hooks []Hook

	secrets func() secrets // of the setters; nil for none

	encrypt  bool // WithEncryption was called: no key is then an error
	ring     bool // WithKeyring or WithAEAD was called: no ring is then an error
	compress bool // WithCompression was called: 0 is then an error
	tls      bool // WithTLS was called: TLS even without a file
}

// DefaultConfig returns a new Config with every default filled in.
func DefaultConfig() *Config {
	return (&Config{}).withDefaults()
}

// WithEndpoints sets Endpoints.
func (c *Config) WithEndpoints(endpoints ...string) *Config {
	// Never nil, which would mean the default where nothing was found.
	c.Endpoints = append([]string{}, endpoints...)
	return c
}

// WithTimeout sets RequestTimeout, the time that one request may take. Below a
// millisecond it is refused by [NewClient]: WithTimeout(5) means 5 nanoseconds.
func (c *Config) WithTimeout(d time.Duration) *Config {
	c.RequestTimeout = d
	return c
}

// WithDialTimeout sets DialTimeout, the time that [NewClient] may take.
func (c *Config) WithDialTimeout(d time.Duration) *Config {
	c.DialTimeout = d
	return c
}

// WithKeepAlive sets KeepAliveInterval and KeepAliveTimeout.
func (c *Config) WithKeepAlive(interval, timeout time.Duration) *Config {
	c.KeepAliveInterval, c.KeepAliveTimeout = interval, timeout
	return c
}

// WithAutoSync sets AutoSyncInterval.
func (c *Config) WithAutoSync(interval time.Duration) *Config {
	c.AutoSyncInterval = interval
	return c
}

// WithAuth sets Username and, out of sight, the password; the field Password is empty
// then.
func (c *Config) WithAuth(user, password string) *Config {
	c.Username, c.Password = user, ""
	c.conceal(func(s *secrets) { s.password = password })
	return c
}

// WithToken sets the token, out of sight; the field Token is empty then.
func (c *Config) WithToken(token string) *Config {
	c.Token = ""
	c.conceal(func(s *secrets) { s.token = token })
	return c
}

// WithTLS turns TLS on and sets CertFile, KeyFile, CAFile and
// InsecureSkipVerify. Each of the paths may be empty: with no certificate the
// client shows none, with no CA the system's authorities count.
func (c *Config) WithTLS(cert, key, ca string, insecureSkipVerify bool) *Config {
	c.CertFile, c.KeyFile, c.CAFile = cert, key, ca
	c.InsecureSkipVerify = insecureSkipVerify
	c.tls = true
	return c
}

// WithTLSConfig turns TLS on and sets TLSConfig. Nil means the defaults of TLS.
func (c *Config) WithTLSConfig(cfg *tls.Config) *Config {
	c.TLSConfig = cfg
	c.tls = true
	return c
}

// WithServerName sets ServerName.
func (c *Config) WithServerName(name string) *Config {
	c.ServerName = name
	return c
}

// WithRequireTLS sets RequireTLS.
func (c *Config) WithRequireTLS() *Config {
	c.RequireTLS = true
	return c
}

// WithEncryption sets the encryption key to a copy of key, out of sight; the field
// EncryptionKey is nil then. A nil or empty key is refused by [NewClient] with
// [ErrInvalidKey] and never means plaintext: it is most often an environment
// variable that is not set.
func (c *Config) WithEncryption(key []byte) *Config {
	key, c.EncryptionKey = slices.Clone(key), nil
	c.conceal(func(s *secrets) { s.encryptionKey = key })
	c.encrypt = true
	return c
}

// WithCompression sets CompressionMinSize, in bytes. Below 1024 it is refused by
// [NewClient]: small values grow rather than shrink.
func (c *Config) WithCompression(minSize int) *Config {
	c.CompressionMinSize = minSize
	c.compress = true
	return c
}

// WithNamespace sets Namespace.
func (c *Config) WithNamespace(prefix string) *Config {
	c.Namespace = prefix
	return c
}

// WithMaxRequestBytes sets MaxRequestBytes.
func (c *Config) WithMaxRequestBytes(n int) *Config {
	c.MaxRequestBytes = n
	return c
}

// WithMaxTxnOps sets MaxTxnOps.
func (c *Config) WithMaxTxnOps(n int) *Config {
	c.MaxTxnOps = n
	return c
}

// WithMaxKeyBytes sets MaxKeyBytes.
func (c *Config) WithMaxKeyBytes(n int) *Config {
	c.MaxKeyBytes = n
	return c
}

// WithLazyConnect sets LazyConnect.
func (c *Config) WithLazyConnect() *Config {
	c.LazyConnect = true
	return c
}

// WithDialer sets Dialer.
func (c *Config) WithDialer(dial func(ctx context.Context, network, address string) (net.Conn, error)) *Config {
	c.Dialer = dial
	return c
}

// WithLogger sets Logger.
func (c *Config) WithLogger(l *slog.Logger) *Config {
	c.Logger = l
	return c
}

// WithHooks sets Hooks.
func (c *Config) WithHooks(hooks ...Hook) *Config {
	c.Hooks = slices.Clone(hooks)
	return c
}

// usesTLS reports whether TLS was asked for by anything but an endpoint. It
// decides for the endpoints without a scheme.
func (c *Config) usesTLS() bool {
	return c.tls || c.TLSConfig != nil || c.hasTLSFile() || c.ServerName != "" || c.InsecureSkipVerify
}

func (c *Config) hasTLSFile() bool {
	return c.CertFile != "" || c.KeyFile != "" || c.CAFile != ""
}

// endpoints returns those of c.Endpoints that are well-formed; after Validate
// that is all of them.
func (c *Config) endpoints() []dial.Endpoint {
	raws := c.Endpoints
	if raws == nil && c.DiscoverySRV == "" {
		raws = []string{DefaultEndpoint}
	}
	var all []dial.Endpoint
	for _, raw := range raws {
		if e, err := dial.ParseEndpoint(raw); err == nil {
			all = append(all, e)
		}
	}
	return all
}

func (c *Config) clone() *Config {
	r := c.revealed()
	r.Endpoints = slices.Clone(c.Endpoints)
	r.EncryptionKey = slices.Clone(r.EncryptionKey)
	r.LegacyKey = slices.Clone(r.LegacyKey)
	r.AssociatedContext = slices.Clone(c.AssociatedContext)
	r.PlaintextReads = slices.Clone(c.PlaintextReads)
	r.PlaintextWrites = slices.Clone(c.PlaintextWrites)
	r.LegacyPrefixes = slices.Clone(c.LegacyPrefixes)
	r.UnencryptedPrefixes = slices.Clone(c.UnencryptedPrefixes)
	r.Hooks = slices.Clone(c.Hooks)
	r.TLSConfig = c.TLSConfig.Clone()
	return r
}

// withDefaults fills in each field of c whose zero value stands for a default.
func (c *Config) withDefaults() *Config {
	if c.Endpoints == nil && c.DiscoverySRV == "" {
		c.Endpoints = []string{DefaultEndpoint}
	}
	setDefault(&c.DialTimeout, DefaultDialTimeout)
	setDefault(&c.RequestTimeout, DefaultRequestTimeout)
	setDefault(&c.KeepAliveInterval, DefaultKeepAliveInterval)
	setDefault(&c.KeepAliveTimeout, DefaultKeepAliveTimeout)
	setDefault(&c.MaxRequestBytes, DefaultMaxRequestBytes)
	setDefault(&c.MaxTxnOps, DefaultMaxTxnOps)
	setDefault(&c.MaxKeyBytes, DefaultMaxKeyBytes)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// secrets are what the setters of a [Config] were given. They are held by a function
// and not by fields: what prints a struct by reflection, past its methods, can't look
// into one.
type secrets struct {
	password, token          string
	encryptionKey, legacyKey []byte
}
