package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/blueprint-go/etcd/internal/dial"
	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// conn is the connection of a client to its cluster: what requests, watches and
// renewals need to be sent, and nothing of what they mean. It knows no value and no
// lock. Safe for concurrent use.
type conn struct {
	namespace
	cfg   *Config
	raw   *clientv3.Client
	rpc   rpcs
	seen  rpc.Seen
	auth  *authenticator
	dials *dial.Dialer

	// largest is the size of the largest request that the server takes.
	largest int
	// revoking holds a value for each lease that is being revoked in the background.
	revoking chan struct{}

	// closing is closed before anything else is.
	closing chan struct{}
	closed  atomic.Bool
	// background counts the goroutines of watches, leases and locks; each ends
	// when closing is closed. mu keeps disconnect from waiting while one is added.
	mu         sync.Mutex
	background sync.WaitGroup
}

// newConn takes a resolved Config, and makes of its secrets what it needs.
func newConn(cfg *Config) *conn {
	auth := newAuthenticator(cfg)
	return &conn{
		namespace: newNamespace(cfg),
		cfg:       cfg,
		auth:      auth,
		dials:     dial.New(cfg.dialing()),
		largest:   rpc.LargestMessage(cfg.MaxRequestBytes, rpc.RequestHeader(auth.username)),
		revoking:  make(chan struct{}, maxRevocations),
		closing:   make(chan struct{}),
	}
}

// open makes the clientv3 client and with it the connections; nothing is sent.
func (c *conn) open() error {
	send := c.cfg.MaxRequestBytes + grpcOverhead
	options := slices.Concat(c.dials.Options(), c.auth.dialOptions(), rpc.BalanceOptions())
	options = append(options, grpc.WithUnaryInterceptor(rpc.SendOnce), grpc.WithDefaultCallOptions(
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
		// rpc.SendOnce takes the place of clientv3's retries already; this holds if a
		// later clientv3 should set its interceptor after the options below.
		MaxUnaryRetries: 1,
		DialOptions:     options,
		// clientv3 would make a logger per client, at 200 KB each.
		Logger: zap.NewNop(),
	})
	if err != nil {
		return fail("connect", "", err)
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

// dialError joins why endpoints can't be used, and what attempts that are under way wait
// for; nil means that there is neither.
func (c *conn) dialError() error {
	var causes []error
	for _, f := range c.dials.Troubles() {
		causes = append(causes, &EndpointError{Endpoint: f.Endpoint, Err: f.Err})
	}
	return errs.Join(causes)
}

// disconnected reports whether the last attempt to connect failed at every
// endpoint.
func (c *conn) disconnected() bool { return len(c.dials.Failures()) >= c.endpointCount() }

// stop ends what is under way, and refuses what comes later. It is called once.
func (c *conn) stop() {
	c.mu.Lock()
	c.closed.Store(true)
	c.mu.Unlock()
	close(c.closing)
}

// disconnect closes the connections and waits for all goroutines. It comes after stop.
func (c *conn) disconnect() error {
	err := c.raw.Close()
	c.background.Wait()
	// clientv3 reports that its own context ended, which is what closing does.
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// start runs f in a goroutine that Close waits for; f must end when c.closing is
// closed. It returns ErrClosed, without running f, if that has happened.
func (c *conn) start(f func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return ErrClosed
	}
	c.background.Go(f)
	return nil
}

// retain has Close wait for something in the background that goroutines come and go
// for, until c.background.Done is called. That must happen soon after c.closing is
// closed. It returns ErrClosed if that has happened already.
func (c *conn) retain() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return ErrClosed
	}
	c.background.Add(1)
	return nil
}

func (c *conn) isClosed() bool { return c.closed.Load() }

// admit reports why a request can't be begun.
func (c *conn) admit(ctx context.Context) error {
	switch {
	case ctx == nil:
		return ErrNilContext
	case c.isClosed():
		return ErrClosed
	}
	return nil
}

func (c *conn) endpointCount() int {
	if c.cfg.AutoSyncInterval == 0 {
		return len(c.cfg.Endpoints)
	}
	return len(c.raw.Endpoints())
}

func (c *conn) severalEndpoints() bool { return c.endpointCount() > 1 }

// withDeadline runs an operation of several requests under one deadline: the
// caller's, or RequestTimeout for all of them together.
func (c *conn) withDeadline(ctx context.Context, op, key string, f func(context.Context) error) error {
	if err := c.admit(ctx); err != nil {
		return fail(op, key, err)
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	return f(ctx)
}

// bounded returns ctx with its deadline, or with the default one if it has none.
func (c *conn) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.cfg.RequestTimeout)
}

// maxRevocations is how many leases that were given up are revoked at once.
const maxRevocations = 16

// checkSize refuses a request that the server would refuse for its size, and no
// other but for a few bytes below the limit: the server's ID may be shorter than it
// is taken for here. The name of a user that the client doesn't know, as that of a
// token, is not counted; the server refuses by the same error then.
//
// Reads have the same limit, for the sake of one rule. The server's own would be
// half a MiB higher.
func (c *conn) checkSize(m proto.Message) error { return c.checkBytes(proto.Size(m)) }

func (c *conn) checkBytes(n int) error {
	if n <= c.largest {
		return nil
	}
	limit := c.cfg.MaxRequestBytes
	return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, n+limit-c.largest, limit)
}
