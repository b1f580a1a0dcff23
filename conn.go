package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// conn is what requests, watches and renewals need to reach the cluster. It knows nothing of
// values and locks. Safe for concurrent use.
type conn struct {
	namespace
	cfg *Config
	rpc *rpc.Conn
	// revoking holds a value for each lease that is being revoked in the background.
	revoking chan struct{}
	joiner   joiner // nil for a client without batching
	// firstAnswer returns the first answer to a transaction that writes, if a proxy has sent it
	// twice; nil for a client whose values don't prove it.
	firstAnswer func(ctx context.Context, r request, req *pb.TxnRequest, resp *pb.TxnResponse, from rpc.Mark) (*pb.TxnResponse, error)
}

// newConn returns a connection that isn't open. It takes a resolved Config, and keeps none of
// its secrets in readable form.
func newConn(cfg *Config) *conn {
	return &conn{
		namespace: newNamespace(cfg),
		cfg:       cfg,
		rpc: rpc.NewConn(rpc.Params{
			Endpoints:         cfg.Endpoints,
			SyncInterval:      cfg.AutoSyncInterval,
			DialTimeout:       cfg.DialTimeout,
			KeepAliveInterval: cfg.KeepAliveInterval,
			KeepAliveTimeout:  cfg.KeepAliveTimeout,
			MaxRequestBytes:   cfg.MaxRequestBytes,
			Auth: rpc.AuthParams{
				Username: cfg.Username, Password: cfg.Password, Token: cfg.Token,
				Credentials: cfg.Credentials, TokenSource: cfg.TokenSource,
			},
			Dial:       cfg.dialing(),
			AtEndpoint: func(endpoint string, err error) error { return &EndpointError{Endpoint: endpoint, Err: err} },
		}),
		revoking: make(chan struct{}, maxRevocations),
	}
}

// open makes the connections; nothing is sent.
func (c *conn) open() error {
	if err := c.rpc.Open(); err != nil {
		return fail("connect", "", err)
	}
	return nil
}

// admit returns why a request can't begin, or nil.
func (c *conn) admit(ctx context.Context) error {
	switch {
	case ctx == nil:
		return ErrNilContext
	case c.rpc.IsClosed():
		return ErrClosed
	}
	return nil
}

// withDeadline runs an operation of several requests under one deadline: the
// caller's, or RequestTimeout for all of them together.
func (c *conn) withDeadline(ctx context.Context, r request, f func(context.Context) error) error {
	if err := c.admit(ctx); err != nil {
		return r.fail(err)
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
