package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Client is a client of an etcd cluster. It is safe for concurrent use by
// multiple goroutines, and one per process is enough: it multiplexes all
// requests over one connection to each endpoint. Its zero value is not usable;
// make one with [NewClient] and end it with [Client.Close].
type Client struct {
	cfg   *Config
	raw   *clientv3.Client
	rpc   rpcs
	seen  seen
	auth  *authenticator
	dials *dialLog
	codec *codec

	// largest is the size of the largest request that the server takes.
	largest int

	streams  streamSupport
	nesting  nestingLimit
	renewals *renewals
	watches  *watchHub
	held     *heldKeys
	// revoking holds a value for each lease that is being revoked in the background.
	revoking chan struct{}

	// closing is closed by Close before anything else is.
	closing   chan struct{}
	closed    atomic.Bool
	closeOnce sync.Once
	closeErr  error
	// background counts the goroutines of watches, leases and locks; each ends
	// when closing is closed. mu keeps Close from waiting while one is added.
	mu         sync.Mutex
	background sync.WaitGroup
}

// rpcs are the calls that the road can make, taken from the generated clients
// once so that a request needs no closure of its own.
type rpcs struct {
	put    unary[*pb.PutRequest, *pb.PutResponse]
	get    unary[*pb.RangeRequest, *pb.RangeResponse]
	delete unary[*pb.DeleteRangeRequest, *pb.DeleteRangeResponse]
	txn    unary[*pb.TxnRequest, *pb.TxnResponse]

	grant      unary[*pb.LeaseGrantRequest, *pb.LeaseGrantResponse]
	revoke     unary[*pb.LeaseRevokeRequest, *pb.LeaseRevokeResponse]
	timeToLive unary[*pb.LeaseTimeToLiveRequest, *pb.LeaseTimeToLiveResponse]
	lease      pb.LeaseClient
	watch      pb.WatchClient
	status     unary[*pb.StatusRequest, *pb.StatusResponse]

	rangeStream func(context.Context, *pb.RangeRequest, ...grpc.CallOption) (pb.KV_RangeStreamClient, error)
}

// NewClient returns a client for the cluster that cfg describes; a nil cfg means
// [DefaultConfig].
//
// It checks cfg and then, unless [Config.LazyConnect] is set, that the cluster
// answers a linearizable read within [Config.DialTimeout]. If it does not, the
// error names each endpoint with the true cause, such as [ErrConnectionRefused],
// [ErrUnknownAuthority] or [ErrAuthFailed]; a cause that waiting does not heal
// ends the check at once. A failed NewClient leaves nothing behind.
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
	auth := newAuthenticator(cfg)
	c := &Client{
		cfg:     cfg,
		codec:   codec,
		auth:    auth,
		dials:   newDialLog(cfg),
		largest: largestMessage(cfg.MaxRequestBytes, requestHeader(auth.username)),
		closing: make(chan struct{}),

		revoking: make(chan struct{}, maxRevocations),
	}
	c.renewals, c.held = newRenewals(c), newHeldKeys(c)
	c.watches = newWatchHub(c)
	cfg.warnOfCredentials()
	cfg.forgetSecrets() // codec and authenticator have made of them what they need
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

// open makes the clientv3 client and with it the connections; nothing is sent.
func (c *Client) open() error {
	send := c.cfg.MaxRequestBytes + grpcOverhead
	options := slices.Concat(c.dials.dialOptions(), c.auth.dialOptions(), balanceOptions())
	options = append(options, grpc.WithUnaryInterceptor(sendOnce), grpc.WithDefaultCallOptions(
		grpc.WaitForReady(true),
		grpc.MaxCallSendMsgSize(send),
		grpc.MaxCallRecvMsgSize(math.MaxInt32),
	))
	raw, err := clientv3.New(clientv3.Config{
		Endpoints:            c.cfg.Endpoints,
		AutoSyncInterval:     c.cfg.AutoSyncInterval,
		DialTimeout:          c.cfg.DialTimeout,
		DialKeepAliveTime:    c.cfg.KeepAliveInterval,
		DialKeepAliveTimeout: c.cfg.KeepAliveTimeout,
		MaxCallSendMsgSize:   send,
		MaxCallRecvMsgSize:   math.MaxInt32,
		// One attempt: the retry policy is in request.go. Zero would mean 100.
		// sendOnce takes the place of clientv3's retries already; this holds if a
		// later clientv3 should set its interceptor after the options below.
		MaxUnaryRetries: 1,
		DialOptions:     options,
		// clientv3 would make a logger per client, at 200 KB each.
		Logger: zap.NewNop(),
	})
	if err != nil {
		return &Error{Op: "connect", Err: err}
	}
	c.raw = raw
	conn := raw.ActiveConnection()
	kv, lease, auth := pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewAuthClient(conn)
	c.rpc = rpcs{
		put: kv.Put, get: kv.Range, delete: kv.DeleteRange, txn: kv.Txn,
		rangeStream: kv.RangeStream,
		grant:       lease.LeaseGrant, revoke: lease.LeaseRevoke, timeToLive: lease.LeaseTimeToLive, lease: lease,
		watch: pb.NewWatchClient(conn), status: pb.NewMaintenanceClient(conn).Status,
	}
	c.auth.rpc = auth.Authenticate
	return nil
}

// grpcOverhead is what the server adds to its request limit when it limits
// gRPC messages (server/v3/etcdserver/api/v3rpc, grpcOverheadBytes).
const grpcOverhead = 512 * 1024

// check waits until the cluster answers, DialTimeout has passed, or every
// endpoint has failed for a reason that waiting doesn't heal.
func (c *Client) check() error {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.DialTimeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	// Owned by this call: it ends with ctx, and the call waits for it.
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			changed := c.dials.changed()
			if c.hopeless() {
				stop(errHopeless)
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	err := c.ping(ctx)
	stop(nil)
	<-watched
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		e.Op, e.Key = "connect", ""
		if errors.Is(e.Err, errHopeless) {
			e.Err = withKind(ErrUnavailable, c.dials.err())
		}
	}
	return err
}

// errHopeless ends the check of NewClient early.
var errHopeless = errors.New("no endpoint can be used")

// hopeless reports whether every endpoint has failed for a reason that waiting
// doesn't heal.
func (c *Client) hopeless() bool {
	failures := c.dials.failures()
	for _, f := range failures {
		if !permanent(f.Err) {
			return false
		}
	}
	return len(failures) >= len(c.cfg.Endpoints)
}

// disconnected reports whether the last attempt to connect failed at every
// endpoint.
func (c *Client) disconnected() bool { return len(c.dials.failures()) >= c.endpointCount() }

// ping makes a linearizable read, as etcdctl's "endpoint health" does: only a
// member that reaches a quorum answers it. That the user may not read the key
// is an answer too, in etcd's own words: a proxy denies as well.
func (c *Client) ping(ctx context.Context) error {
	_, err := do(ctx, c, request{op: "ping", impatient: true}, c.rpc.get, &pb.RangeRequest{Key: []byte("health"), KeysOnly: true})
	if errors.Is(err, ErrPermissionDenied) && saidByEtcd(err) {
		return nil
	}
	return err
}

// Close ends the client: requests that are under way fail with [ErrClosed], as
// do later ones; watches end; locks and leases are no longer kept alive. It
// waits for the client's goroutines. It is idempotent and safe for concurrent
// use: every call waits for the end. The error is nil in all known cases.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.closed.Store(true)
		c.mu.Unlock()
		close(c.closing)
		c.watches.cancel()
		c.codec.close()
		err := c.raw.Close()
		c.background.Wait()
		// clientv3 reports that its own context ended, which is what closing does.
		if !errors.Is(err, context.Canceled) {
			c.closeErr = err
		}
	})
	return c.closeErr
}

// start runs f in a goroutine that Close waits for; f must end when c.closing is
// closed. It returns ErrClosed, without running f, if that has happened.
func (c *Client) start(f func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return ErrClosed
	}
	c.background.Go(f)
	return nil
}

// hold has Close wait for something in the background that goroutines come and go
// for, until c.background.Done is called. That must happen soon after c.closing is
// closed. It returns ErrClosed if that has happened already.
func (c *Client) hold() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return ErrClosed
	}
	c.background.Add(1)
	return nil
}

// Raw returns the clientv3 client underneath, for what this package does not
// offer. It bypasses encryption, compression, the namespace, the limits, the
// retry policy (its requests are tried once) and the hooks. It must not be
// closed. The token of Config.Username goes with its requests too, but an
// expired one is only replaced by requests of this client.
func (c *Client) Raw() *clientv3.Client { return c.raw }

// IsEncrypted reports whether the client encrypts values.
func (c *Client) IsEncrypted() bool { return c.codec.encrypts() }

// Endpoints returns the endpoints in use: those of the configuration, or with
// [Config.AutoSyncInterval] those that the cluster's members advertise.
func (c *Client) Endpoints() []string { return c.raw.Endpoints() }

// String names the endpoints, without secrets.
func (c *Client) String() string { return fmt.Sprintf("etcd.Client%v", c.cfg.Endpoints) }

// GoString is String, for %#v.
func (c *Client) GoString() string { return c.String() }

// Format writes String, whatever the verb.
func (c *Client) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

func (c *Client) isClosed() bool { return c.closed.Load() }

// admit reports why a request can't be begun.
func (c *Client) admit(ctx context.Context) error {
	switch {
	case ctx == nil:
		return ErrNilContext
	case c.isClosed():
		return ErrClosed
	}
	return nil
}

func (c *Client) endpointCount() int {
	if c.cfg.AutoSyncInterval == 0 {
		return len(c.cfg.Endpoints)
	}
	return len(c.raw.Endpoints())
}

func (c *Client) severalEndpoints() bool { return c.endpointCount() > 1 }
