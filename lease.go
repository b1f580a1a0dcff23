package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Lease creates a lease that lives for ttlSeconds unless it is kept alive; the keys
// attached to it are deleted when it ends. It is [Client.Grant] without a context: it
// takes one round trip of at most [Config.RequestTimeout].
func (c *Client) Lease(ttlSeconds int64) (LeaseID, error) {
	if err := checkTTLSeconds(ttlSeconds); err != nil {
		return 0, fail("grant", "", err)
	}
	return c.grant(context.Background(), ttlSeconds)
}

// Grant creates a lease that lives for ttl unless it is kept alive, in one round trip.
// The time is rounded up to whole seconds, and the server raises it to its minimum (one
// and a half times its election timeout, 2 s by default); [Client.TimeToLive] returns the
// granted time.
//
// The client chooses the ID at random. So a grant whose answer is lost can be sent again,
// to another endpoint if there is one. A lease whose grant fails for good is revoked in
// the background, in case it exists; if no server can be reached for that, it ends by
// itself.
func (c *Client) Grant(ctx context.Context, ttl time.Duration) (LeaseID, error) {
	seconds, err := checkTTL(ttl)
	if err != nil {
		return 0, fail("grant", "", err)
	}
	return c.grant(ctx, seconds)
}

func (c *Client) grant(ctx context.Context, seconds int64) (LeaseID, error) {
	resp, err := c.grantLease(ctx, seconds)
	return LeaseID(resp.GetID()), err
}

// RevokeLease ends a lease at once and deletes the keys attached to it, in one round
// trip. A lease that no longer exists is no error, so a revocation is sent again if its
// answer is lost.
func (c *Client) RevokeLease(ctx context.Context, id LeaseID) error {
	return c.endLease(ctx, id)
}

// LeaseStatus is what the server knows about a lease.
type LeaseStatus struct {
	// TTL is the time left, in whole seconds.
	TTL time.Duration
	// GrantedTTL is the time that a renewal gives.
	GrantedTTL time.Duration
	// Keys are the keys attached to the lease, in order and without the namespace. Keys
	// outside the namespace are left out.
	Keys []string
}

// TimeToLive returns the state of a lease, or [ErrLeaseNotFound], in one round trip.
func (c *Client) TimeToLive(ctx context.Context, id LeaseID) (LeaseStatus, error) {
	const op = "time to live"
	resp, err := do(ctx, c.conn, request{op: op}, c.rpc.TimeToLive, &pb.LeaseTimeToLiveRequest{ID: int64(id), Keys: true})
	if err != nil {
		return LeaseStatus{}, err
	}
	if resp.TTL < 0 {
		return LeaseStatus{}, answered(op, "", ErrLeaseNotFound)
	}
	out := LeaseStatus{
		TTL:        time.Duration(resp.TTL) * time.Second,
		GrantedTTL: time.Duration(resp.GrantedTTL) * time.Second,
		Keys:       make([]string, 0, len(resp.Keys)),
	}
	for _, key := range resp.Keys {
		if bytes.HasPrefix(key, []byte(c.cfg.Namespace)) {
			out.Keys = append(out.Keys, c.visible(key))
		}
	}
	slices.Sort(out.Keys)
	return out, nil
}

// PutWithLease stores value under key and attaches the key to a lease, in one round trip.
// It fails with [ErrLeaseNotFound] if the lease has ended, and with [ErrInvalidArgument]
// for lease 0, which means none.
func (c *Client) PutWithLease(ctx context.Context, key string, value []byte, id LeaseID, opts ...PutOption) error {
	if _, err := putOptionsOf(opts); err != nil {
		return fail("put", key, err)
	}
	if id == 0 {
		return fail("put", key, fmt.Errorf("%w: lease 0 is none, and the key would stay for good", ErrInvalidArgument))
	}
	if len(opts) == 0 {
		return c.Put(ctx, key, value, WithLease(id))
	}
	return c.Put(ctx, key, value, append(slices.Clip(opts), WithLease(id))...)
}

// PutWithTTL stores value under key for ttl, in two round trips: it grants a lease and
// attaches the key to it. It returns the lease, for [Client.KeepAlive]. If the put fails,
// the lease is revoked, or ends by itself. [WithLease], [WithIgnoreLease] and [WithGuard]
// are refused with [ErrInvalidArgument].
func (c *Client) PutWithTTL(ctx context.Context, key string, value []byte, ttl time.Duration, opts ...PutOption) (LeaseID, error) {
	const op = "put with ttl"
	o, err := putOptionsOf(opts)
	if err == nil {
		err = o.check()
	}
	if err == nil && (o.lease != 0 || o.ignoreLease) {
		err = fmt.Errorf("%w: two leases for one key", ErrInvalidArgument)
	}
	if err != nil {
		return 0, fail(op, key, err)
	}
	seconds, err := checkTTL(ttl)
	if err != nil {
		return 0, fail(op, key, err)
	}
	// Before the lease, so that a put that would be refused leaves no lease behind.
	o.lease = math.MaxInt64
	req, sealed, err := c.putRequest(ctx, key, value, o)
	if err == nil {
		err = c.rpc.CheckSize(req)
	}
	if err != nil {
		return 0, fail(op, key, err)
	}
	var id LeaseID
	err = c.withDeadline(ctx, request{op: op, key: key}, func(ctx context.Context) error {
		if id, err = c.grant(ctx, seconds); err != nil {
			return err
		}
		returned := false
		defer func() { // a hook may panic: then the caller never learns of the lease
			if !returned {
				c.giveUpLease(id, true)
			}
		}()
		req.Lease, o.lease = int64(id), id
		r := request{op: op, key: key}
		if len(o.conditions) > 0 {
			err = c.putIf(ctx, r, value, o)
		} else {
			r.write, r.seals = true, sealed
			err = c.putNow(ctx, r, req, o)
		}
		switch {
		case err == nil || MaybeApplied(err):
		case errors.Is(err, ErrLockLost): // ctx ends with the lock
			c.giveUpLease(id, true)
		default:
			err = errors.Join(err, c.RevokeLease(ctx, id))
		}
		returned = true
		return err
	})
	if err != nil {
		return 0, err
	}
	return id, nil
}

// KeepAliveOnce renews a lease once, in one round trip, and returns its remaining time.
// It fails with [ErrLeaseNotFound] if the lease has ended.
func (c *Client) KeepAliveOnce(ctx context.Context, id LeaseID) (time.Duration, error) {
	const op = "keep alive"
	resp, err := do(ctx, c.conn, request{op: op}, c.renewals.once, &pb.LeaseKeepAliveRequest{ID: int64(id)})
	if err != nil {
		return 0, err
	}
	if resp.TTL <= 0 {
		return 0, answered(op, "", ErrLeaseNotFound)
	}
	return time.Duration(resp.TTL) * time.Second, nil
}

// KeepAliveResponse is one renewal of a lease, or the end of its renewals.
type KeepAliveResponse struct {
	// TTL is the lease's time to live from this renewal on.
	TTL time.Duration
	err error
}

// Err returns why the lease is no longer kept alive; nil for a renewal. It is [ErrLeaseLost],
// with [ErrLeaseNotFound] in its chain if the lease has ended and otherwise the reason why it
// could not be renewed in time, [ErrClosed] if the client was closed, or the error of the
// context.
func (r KeepAliveResponse) Err() error { return r.err }

// KeepAlive renews a lease eight times within its time to live, until ctx ends or the
// lease does. All renewals of a client share one stream. The first one is made before
// KeepAlive returns, so an unknown lease fails at once.
//
// A lease counts as lost when its time has passed since the last successful renewal was
// sent: the server counts from a later moment.
//
// You need not read the channel: it holds only the newest response. The last response has
// an Err; the channel is closed after it.
func (c *Client) KeepAlive(ctx context.Context, id LeaseID) (<-chan KeepAliveResponse, error) {
	const op = "keep alive"
	if err := c.admit(ctx); err != nil {
		return nil, fail(op, "", err)
	}
	began := time.Now()
	ttl, err := c.KeepAliveOnce(ctx, id)
	if err != nil {
		return nil, err
	}
	k := &keptAlive{out: make(chan KeepAliveResponse, 1)}
	s := c.renewals.beginSession(id, began, ttl, 0)
	s.told = func(ttl time.Duration) { k.tell(KeepAliveResponse{TTL: ttl}, false) }
	k.tell(KeepAliveResponse{TTL: ttl}, false)
	if err := c.renewals.keep(s); err != nil {
		s.end(err)
		return nil, fail(op, "", err)
	}
	context.AfterFunc(s.ctx, func() { k.tell(KeepAliveResponse{err: context.Cause(s.ctx)}, true) })
	context.AfterFunc(ctx, func() { s.end(context.Cause(ctx)) })
	return k.out, nil
}

// keptAlive is the channel that KeepAlive returns.
type keptAlive struct {
	mu    sync.Mutex // one sender at a time, so that it can use the slot that it frees
	ended bool
	out   chan KeepAliveResponse
}

// tell replaces a response that nobody has taken by r.
func (k *keptAlive) tell(r KeepAliveResponse, last bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return
	}
	select {
	case <-k.out:
	default:
	}
	k.out <- r
	if k.ended = last; last {
		close(k.out)
	}
}
