package rpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/blueprint-go/etcd/internal/dial"
	"github.com/blueprint-go/etcd/internal/errs"
)

// Params are what a Conn is made of.
type Params struct {
	Endpoints []string
	// SyncInterval is how often the endpoints are replaced by those that the members
	// advertise; 0 for never.
	SyncInterval      time.Duration
	DialTimeout       time.Duration
	KeepAliveInterval time.Duration
	KeepAliveTimeout  time.Duration
	// MaxRequestBytes is the server's limit.
	MaxRequestBytes int
	Auth            AuthParams
	Dial            dial.Params
	// AtEndpoint returns err as that of an endpoint, in the words of the client.
	AtEndpoint func(endpoint string, err error) error
}

// Conn is the connection of a client to its cluster: what it takes to send requests and
// open streams. It knows no value and no lock. Safe for concurrent use.
type Conn struct {
	*Life
	// Calls are the RPCs. Raw and Calls are nil before Open.
	Calls
	Raw  *clientv3.Client
	Auth *Auth
	// Seen is the newest point of the cluster's history that answers have told of.
	Seen Seen
	// Largest is the size of the largest request that the server takes.
	Largest int

	params Params
	dials  *dial.Dialer
}

// NewConn returns a connection that isn't open. It reads the TLS files.
func NewConn(p Params) *Conn {
	c := &Conn{
		Life:    newLife(),
		Auth:    newAuth(p.Auth, p.DialTimeout, p.AtEndpoint),
		Largest: largestMessage(p.MaxRequestBytes, requestHeader(p.Auth.Username)),
		params:  p,
		dials:   dial.New(p.Dial),
	}
	c.params.Auth, c.params.Dial = AuthParams{}, dial.Params{} // they hold secrets
	return c
}

// Open makes the clientv3 client and with it the connections; nothing is sent.
func (c *Conn) Open() error {
	p := &c.params
	send := p.MaxRequestBytes + grpcOverhead
	options := slices.Concat(c.dials.Options(), c.Auth.dialOptions(), balanceOptions(send), []grpc.DialOption{
		grpc.WithUnaryInterceptor(sendOnce),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connWindow),
	})
	raw, err := clientv3.New(clientv3.Config{
		Endpoints:            p.Endpoints,
		AutoSyncInterval:     p.SyncInterval,
		DialTimeout:          p.DialTimeout,
		DialKeepAliveTime:    p.KeepAliveInterval,
		DialKeepAliveTimeout: p.KeepAliveTimeout,
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
		return err
	}
	c.Raw = raw
	c.Calls = newCalls(raw.ActiveConnection())
	c.Auth.authenticate = c.authenticate
	return nil
}

// What a server may send before it is read, of one stream and of all. Given sizes keep gRPC
// from measuring, by a ping for each answer, what the network can take (its own limit is 16
// MiB): that costs a request two allocations, and the server a frame.
const (
	streamWindow = 4 << 20
	connWindow   = 16 << 20
)

// grpcOverhead is what the server adds to its request limit when it limits
// gRPC messages (server/v3/etcdserver/api/v3rpc, grpcOverheadBytes).
const grpcOverhead = 512 * 1024

// Close closes the connections and waits for what runs in the background. It comes
// after Stop.
func (c *Conn) Close() error {
	err := c.Raw.Close()
	c.Wait()
	// clientv3 reports that its own context ended, which is what closing does.
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// DialError joins why endpoints can't be used, and what attempts that are under way wait
// for; nil means that there is neither.
func (c *Conn) DialError() error {
	var causes []error
	for _, f := range c.dials.Troubles() {
		causes = append(causes, c.params.AtEndpoint(f.Endpoint, f.Err))
	}
	return errs.Join(causes)
}

// IsDisconnected reports whether the last attempt to connect failed at every endpoint.
func (c *Conn) IsDisconnected() bool { return len(c.dials.Failures()) >= c.EndpointCount() }

// IsHopeless reports whether every endpoint has failed for a reason that waiting doesn't
// heal.
func (c *Conn) IsHopeless() bool {
	failures := c.dials.Failures()
	for _, f := range failures {
		if !dial.IsPermanent(f.Err) {
			return false
		}
	}
	return len(failures) >= len(c.params.Endpoints)
}

// Changed returns a channel that is closed when an attempt to connect begins or ends.
func (c *Conn) Changed() <-chan struct{} { return c.dials.Changed() }

// EndpointCount returns how many endpoints are in use.
func (c *Conn) EndpointCount() int {
	if c.params.SyncInterval == 0 {
		return len(c.params.Endpoints)
	}
	return len(c.Raw.Endpoints())
}

// HasSeveralEndpoints reports whether a request can be sent elsewhere.
func (c *Conn) HasSeveralEndpoints() bool { return c.EndpointCount() > 1 }

// CheckSize refuses a request that the server would refuse for its size, and no
// other but for a few bytes below the limit: the server's ID may be shorter than it
// is taken for here. The name of a user that the client doesn't know, as that of a
// token, is not counted; the server refuses by the same error then.
//
// Reads have the same limit, for the sake of one rule. The server's own would be
// half a MiB higher.
func (c *Conn) CheckSize(m proto.Message) error { return c.CheckBytes(proto.Size(m)) }

// CheckBytes is CheckSize for a request of n bytes.
func (c *Conn) CheckBytes(n int) error {
	if n <= c.Largest {
		return nil
	}
	limit := c.params.MaxRequestBytes
	return fmt.Errorf("%w: %d bytes, the limit is %d", errs.ErrTooLarge, n+limit-c.Largest, limit)
}

// at returns err as that of the endpoint which to leads to; a nil to is none.
func at(atEndpoint func(string, error) error, to net.Addr, err error) error {
	if to == nil || err == nil {
		return err
	}
	return atEndpoint(dial.NameOf(to), err)
}
