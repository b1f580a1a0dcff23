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

// Config configures a [Client]. The zero value is usable and means the defaults, and so
// does a nil *Config. [NewClient] reads it once and keeps its own copy, so a Config may
// be changed and used again afterwards. It is not safe for concurrent modification.
//
// Printing, logging or marshalling a Config or a *Config shows every secret as REDACTED.
// The setters of secrets ([Config.WithAuth], [Config.WithToken], [Config.WithEncryption],
// [Config.WithLegacyKey]) leave the fields empty and keep the secret where no printer
// finds it, however the Config is held. A secret in a field is in plain memory, and shows
// where methods are not called: when package fmt prints an unexported field of another
// struct, and in printers that look past methods. So prefer the setters. A field that is
// set overrides what its setter was given; [ConfigFromEnv] fills the fields.
type Config struct {
	// Endpoints are the addresses of the cluster's members, in one of the forms
	//
	//	host:port, [ip6]:port        TLS if any TLS field is set, else plaintext
	//	https://host:port            TLS
	//	http://host:port             plaintext
	//	unixs:///path, unixs:path    TLS over a Unix socket
	//	unix:///path, unix:path      plaintext over a Unix socket
	//
	// Requests are spread over all of them. A port is always needed. The endpoints must
	// be all TLS or all plaintext. Nil means [DefaultEndpoint]; an empty list that is not
	// nil is refused, because it usually comes from a lookup that found nothing.
	Endpoints []string

	// DiscoverySRV is a domain whose SRV records name the endpoints, instead of
	// Endpoints, as with etcdctl's --discovery-srv: _etcd-client-ssl._tcp for TLS, or
	// _etcd-client._tcp for plaintext if the former doesn't exist. DiscoverySRVName, if
	// set, is appended to both services after a hyphen. [NewClient] looks them up once,
	// within DialTimeout, even with LazyConnect, and fails if the lookup fails or finds
	// nothing.
	//
	// The names of the servers come from DNS: whoever controls DNS can name a server with
	// a certificate of its own. Where that matters, set ServerName to a name that all
	// servers' certificates hold, such as the domain. Empty means that Endpoints are
	// used.
	DiscoverySRV     string
	DiscoverySRVName string

	// Resolver looks up the records of DiscoverySRV, and the addresses of host names
	// unless Dialer is set, which then does that itself. If a name has several addresses,
	// they are tried in turn, a quarter of a second apart, without waiting for one
	// another; the first that answers is used. Nil means [net.DefaultResolver].
	Resolver *net.Resolver

	// DialTimeout is how long [NewClient] waits for the cluster's first answer, including
	// authentication. One attempt to connect to one endpoint is given up after four
	// fifths of this time or 4 seconds, whichever is less, so that its cause is known by
	// then. Defaults to [DefaultDialTimeout] when zero.
	DialTimeout time.Duration

	// RequestTimeout limits a request whose context has no deadline, including all its
	// retries; a context's deadline replaces it, whether later or earlier. Defaults to
	// [DefaultRequestTimeout] when zero.
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

	// AutoSyncInterval is how often Endpoints is replaced by the addresses that the
	// cluster's members advertise. They must be reachable from here under those names. A
	// client that uses TLS speaks TLS to them, whatever they advertise; credentials that
	// go to one of them in plaintext cause the same warning as for a configured endpoint.
	// Zero means never.
	AutoSyncInterval time.Duration

	// Username and Password authenticate by password; both or neither are set. Not
	// together with Token. Over plaintext to another host they can be overheard:
	// [NewClient] logs a warning, and RequireTLS refuses.
	Username string
	Password string

	// Token authenticates by a token obtained elsewhere, such as a JWT. It is
	// not renewed: when it expires, requests fail with [ErrUnauthenticated].
	// Not together with Username.
	Token string

	// Credentials returns the user name and the password, instead of Username and
	// Password, where they change while the client is in use. It is called whenever a
	// token is needed: with the first request, and when the server no longer accepts the
	// last token, for example after a password change. TokenSource returns the token
	// itself, instead of Token, and is called at the same times.
	//
	// Both must honour ctx; calls are made one at a time. If one fails, the request fails
	// at once, unsent, with [ErrCredentials]; the text of its error becomes part of that
	// error and must hold no secret. At most one of Username, Token, Credentials and
	// TokenSource may be set. Nil means none.
	Credentials func(ctx context.Context) (user, password string, err error)
	TokenSource func(ctx context.Context) (token string, err error)

	// CertFile and KeyFile are paths of the client's certificate and its private key in
	// PEM; both or neither are set. CAFile is the path of the authorities that may sign
	// the servers' certificates, in PEM; empty means those of the system. All three are
	// read again for each connection, so a rotated file takes effect at the next one.
	// While they can't be read, or don't fit each other, the last good ones stay in use
	// and a warning is logged. Setting any of them turns TLS on for endpoints without a
	// scheme. Not together with TLSConfig.
	CertFile string
	KeyFile  string
	CAFile   string

	// ServerName is the name that the servers' certificates must be valid for. Empty
	// means the one in TLSConfig, or else the host of each endpoint; for a Unix socket
	// that is the last part of its path, as in clientv3. Setting it turns TLS on for
	// endpoints without a scheme.
	ServerName string

	// InsecureSkipVerify accepts any certificate, and so anyone who can stand in between.
	// Together with a password or a token [NewClient] logs a warning, and RequireTLS
	// refuses. Setting it turns TLS on for endpoints without a scheme.
	InsecureSkipVerify bool

	// TLSConfig replaces CertFile, KeyFile and CAFile for whatever they can't
	// express. It is cloned. ServerName and InsecureSkipVerify are applied on
	// top when set; the protocol version is at least TLS 1.2. Nil means none.
	TLSConfig *tls.Config

	// RequireTLS refuses any endpoint that would be used in plaintext, and credentials
	// for a server whose certificate isn't verified. It only refuses: https:// or one of
	// the TLS fields turns TLS on.
	RequireTLS bool

	// EncryptionKey encrypts every value on its way into the cluster and decrypts it on
	// its way back. It has 16 to 4096 bytes, best random ones. Not together with Keyring.
	// Nil means no encryption, unless [Config.WithEncryption] set it; a key that is
	// empty, too short, too long or all zero is refused with [ErrInvalidKey].
	EncryptionKey []byte

	// Keyring holds the keys instead of EncryptionKey, where there are several or where
	// they change while the client is in use. It is shared with the caller, not copied.
	// Nil means none.
	Keyring *Keyring

	// KeyProvider supplies a key that the keys above lack, when a value encrypted with it
	// is read. The key then goes into Keyring, if that is set. Nil means none: reading
	// such a value fails with [ErrUnknownKey].
	KeyProvider KeyProvider

	// AssociatedContext is authenticated with every encrypted value and not stored: a
	// value written under one context does not open under another. It separates clusters
	// that share a key. Empty means none.
	AssociatedContext []byte

	// PlaintextReads are prefixes of keys whose values are read even if they are not
	// encrypted; everywhere else such a value fails with [ErrNotEncrypted]. Use it only
	// during a migration: anyone who can write to etcd can plant values under these
	// prefixes. Empty means none.
	PlaintextReads []string

	// PlaintextWrites are prefixes of keys whose values are written unencrypted, and read
	// whether encrypted or not: the first step of a migration, until every instance can
	// decrypt. Empty means none.
	PlaintextWrites []string

	// UnencryptedPrefixes are prefixes of keys that encryption and compression leave
	// alone: their values are stored and read as they are, for readers that don't know
	// this format. Empty means none.
	UnencryptedPrefixes []string

	// LegacyKey is the key of values that the Blueprint provider encrypted. They are read
	// under LegacyPrefixes; nothing is written that way. Such a value bears no mark: a
	// damaged one fails with [ErrDecrypt], but passes for plaintext under PlaintextReads.
	// Nil means none; an empty key is refused with [ErrInvalidKey].
	LegacyKey []byte

	// LegacyPrefixes are prefixes of keys under which LegacyKey reads; everywhere else
	// such a value fails with [ErrNotEncrypted]. Use it only during a migration: such a
	// value is bound to no key, so anyone who can write to etcd can copy it to any other
	// key under these prefixes, and can forge values where the provider has repeated a
	// nonce. LegacyKey needs at least one; "" means every key.
	LegacyPrefixes []string

	// CompressionMinSize is the size in bytes from which values are compressed before
	// they are stored, at least 1024. Zero means no compression. With encryption,
	// compressed values of any size are read in either case; without it, a client that
	// does not compress returns them as they are stored.
	CompressionMinSize int

	// Namespace is put before every key on its way into the cluster and taken off on its
	// way back, so that clients of different namespaces don't see each other's keys. It
	// must leave room within MaxKeyBytes. Empty means none.
	Namespace string

	// MaxRequestBytes is the largest request to send, in bytes, as the server counts it:
	// it adds some twenty of its own, and the name of the user. Larger requests fail with
	// [ErrTooLarge] before anything is sent. Match it with the server's
	// --max-request-bytes. Defaults to [DefaultMaxRequestBytes] when zero.
	MaxRequestBytes int

	// MaxTxnOps is how many operations one transaction may hold; more fail with
	// [ErrTooManyOps] before anything is sent. Match it with the server's --max-txn-ops;
	// bulk calls and loads find out if the server's limit is lower. Defaults to
	// [DefaultMaxTxnOps] when zero.
	MaxTxnOps int

	// MaxKeyBytes is the longest key to send, in bytes, including the namespace; longer
	// ones fail with [ErrTooLarge] before anything is sent. The bounds of a range are not
	// keys: a position behind the longest key is accepted. The server has no limit of its
	// own. Defaults to [DefaultMaxKeyBytes] when zero.
	MaxKeyBytes int

	// Batching has requests about single keys that meet travel together, see
	// [Config.WithBatching]. BatchInFlight is how many requests of a kind may be under
	// way before others wait for each other; it defaults to [DefaultBatchInFlight] when
	// zero.
	Batching      bool
	BatchInFlight int

	// LazyConnect makes [NewClient] return before it has reached the cluster. The first
	// request then reports whatever is wrong.
	LazyConnect bool

	// Dialer opens the connections, below TLS. The network is "tcp" or "unix", the
	// address a host and port or the path of a socket. It must honour ctx and be safe for
	// concurrent use. When a server hangs up on the client, Dialer may be called once
	// more to find out why. Nil means [net.Dialer], for each address of a name as
	// described at Resolver.
	//
	// In both cases HTTPS_PROXY and similar variables have no effect: gRPC leaves them to
	// its own dialer, which this one replaces.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)

	// Logger gets what no error can carry, such as a warning about credentials in
	// plaintext; never a secret or a value. Nil means [slog.Default].
	Logger *slog.Logger

	// Hooks observe each request. Before it they are called in this order, after it in
	// reverse. None may be nil.
	Hooks []Hook

	secrets func() secrets // what the setters were given; nil if nothing

	encrypt  bool // WithEncryption was called: no key is then an error
	ring     bool // WithKeyring or WithAEAD was called: no ring is then an error
	badBatch bool // WithBatching was given a nil option
	compress bool // WithCompression was called: 0 is then an error
	tls      bool // WithTLS was called: TLS even without a file
}

// DefaultConfig returns a new Config with every default filled in.
func DefaultConfig() *Config {
	return (&Config{}).withDefaults()
}

// WithEndpoints sets Endpoints.
func (c *Config) WithEndpoints(endpoints ...string) *Config {
	// Never nil: that would mean the default where a lookup found nothing.
	c.Endpoints = append([]string{}, endpoints...)
	return c
}

// WithTimeout sets RequestTimeout, the time that one request may take. [NewClient]
// refuses less than a millisecond: WithTimeout(5) means 5 nanoseconds.
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

// WithAuth sets Username and, out of sight, the password; the field Password stays empty.
func (c *Config) WithAuth(user, password string) *Config {
	c.Username, c.Password = user, ""
	c.conceal(func(s *secrets) { s.password = password })
	return c
}

// WithToken sets the token, out of sight; the field Token stays empty.
func (c *Config) WithToken(token string) *Config {
	c.Token = ""
	c.conceal(func(s *secrets) { s.token = token })
	return c
}

// WithTLS turns TLS on and sets CertFile, KeyFile, CAFile and InsecureSkipVerify. Each
// path may be empty: without a certificate the client shows none, without a CA it trusts
// the system's authorities.
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
// EncryptionKey stays nil. A nil or empty key never means plaintext: [NewClient] refuses
// it with [ErrInvalidKey], since it is usually an environment variable that is not set.
func (c *Config) WithEncryption(key []byte) *Config {
	key, c.EncryptionKey = slices.Clone(key), nil
	c.conceal(func(s *secrets) { s.encryptionKey = key })
	c.encrypt = true
	return c
}

// WithCompression sets CompressionMinSize, in bytes. [NewClient] refuses less than 1024:
// small values grow rather than shrink.
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

// usesTLS reports whether anything but an endpoint asks for TLS. It decides for the
// endpoints without a scheme.
func (c *Config) usesTLS() bool {
	return c.tls || c.TLSConfig != nil || c.hasTLSFile() || c.ServerName != "" || c.InsecureSkipVerify
}

func (c *Config) hasTLSFile() bool {
	return c.CertFile != "" || c.KeyFile != "" || c.CAFile != ""
}

// endpoints returns the well-formed ones of c.Endpoints; after Validate that is all of
// them.
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
	setDefault(&c.BatchInFlight, DefaultBatchInFlight)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// secrets are what the setters of a [Config] were given. A function holds them rather
// than fields, because code that prints a struct by reflection, past its methods, can't
// look into a function.
type secrets struct {
	password, token          string
	encryptionKey, legacyKey []byte
}
