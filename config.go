package etcd

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"
)

// Defaults of [Config], used by [DefaultConfig] and wherever a field is zero.
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
// defaults. It is read once, by [NewClient]; the client keeps its own copy.
// It is not safe for concurrent modification.
type Config struct {
	Endpoints         []string
	DialTimeout       time.Duration
	RequestTimeout    time.Duration
	KeepAliveInterval time.Duration
	KeepAliveTimeout  time.Duration
	AutoSyncInterval  time.Duration

	Username string
	Password string
	Token    string

	CertFile           string
	KeyFile            string
	CAFile             string
	ServerName         string
	InsecureSkipVerify bool
	TLSConfig          *tls.Config
	RequireTLS         bool

	EncryptionKey      []byte
	CompressionMinSize int
	Namespace          string

	MaxRequestBytes int
	MaxTxnOps       int
	MaxKeyBytes     int

	LazyConnect bool
	Dialer      func(ctx context.Context, network, address string) (net.Conn, error)
	Logger      *slog.Logger
	Hooks       []Hook

	encrypt  bool
	compress bool
	tls      bool
}
