package etcd

import (
	"errors"
	"fmt"
	"io"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/blueprint-go/etcd/internal/txntree"
)

// Client is a client of an etcd cluster. It is safe for concurrent use by
// multiple goroutines, and one per process is enough: it multiplexes all
// requests over one connection to each endpoint. Its zero value is not usable;
// make one with [NewClient] and end it with [Client.Close].
type Client struct {
	*conn
	codec *codec

	streams streamSupport
	nesting txntree.Limit

	renewals *renewals
	watches  *watchHub
	held     *heldKeys
	kept     *keptLeases

	closeOnce sync.Once
	closeErr  error
}

// NewClient returns a client for the cluster that cfg describes; a nil cfg means
// [DefaultConfig].
//
// It checks cfg and then, unless [Config.LazyConnect] is set, that the cluster answers a
// linearizable read within [Config.DialTimeout]. If it does not, the error names each
// endpoint with the true cause, such as [ErrConnectionRefused], [ErrUnknownAuthority] or
// [ErrAuthFailed]; a cause that waiting can't cure ends the check at once. A failed
// NewClient leaves nothing behind.
func NewClient(cfg *Config) (*Client, error) {
	cfg, err := cfg.resolved()
	if err != nil {
		return nil, err
	}
	if err := cfg.discovered(); err != nil {
		return nil, err
	}
	codec, err := newCodec(cfg)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: newConn(cfg), codec: codec}
	c.renewals, c.held = newRenewals(c.conn), newHeldKeys(c.conn)
	c.kept = &keptLeases{renewals: c.renewals}
	c.watches = newWatchHub(c.conn, codec)
	if cfg.Batching {
		c.joiner = newBatching(codec.life, c.conn)
	}
	if codec.encrypts() {
		c.firstAnswer = c.unreplayed
	}
	cfg.warnOfCredentials()
	cfg.forgetSecrets() // the codec and the authenticator have their own by now
	if err := c.open(); err != nil {
		return nil, err
	}
	if cfg.LazyConnect {
		return c, nil
	}
	if err := c.check(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close ends the client: requests that are under way, and later ones, fail with
// [ErrClosed]; watches end; locks and leases are no longer kept alive. It waits for the
// client's goroutines. It is idempotent and safe for concurrent use: every call waits for
// the end. The error is nil in all known cases.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		c.rpc.Stop()
		c.watches.cancel()
		c.codec.close()
		c.closeErr = c.rpc.Close()
	})
	return c.closeErr
}

// Raw returns the clientv3 client underneath, for what this package does not offer. It
// bypasses encryption, compression, the namespace, the limits, the retry policy (its
// requests are tried once) and the hooks. Don't close it. Its requests carry the token of
// Config.Username too, but only requests of this client replace an expired one.
//
// Raw returns nil for a nil Client and for one that [NewClient] did not make. All other calls
// of such a Client panic; packages that work with a client refuse it with [ErrInvalidArgument].
func (c *Client) Raw() *clientv3.Client {
	if c == nil || c.conn == nil {
		return nil
	}
	return c.rpc.Raw
}

// IsEncrypted reports whether the client encrypts values.
func (c *Client) IsEncrypted() bool { return c.codec.encrypts() }

// Endpoints returns the endpoints in use: those of the configuration, or with
// [Config.AutoSyncInterval] those that the cluster's members advertise.
func (c *Client) Endpoints() []string { return c.rpc.Raw.Endpoints() }

// String names the endpoints, without secrets.
func (c *Client) String() string { return fmt.Sprintf("etcd.Client%v", c.cfg.Endpoints) }

// Format writes String for every verb.
func (c *Client) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }
