package etcd

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Session is a lease that is kept alive and that locks can share ([WithSession]): a thousand
// locks then cost one lease, and all of them are lost together. Its Context ends when the lease
// can no longer be relied upon. Make one with [Client.NewSession] and end it with
// [Session.Close].
//
// A Session is safe for concurrent use. One that was lost stays lost: make another one, and
// other locks with it.
type Session struct {
	client *Client
	lease  *session

	mu       sync.Mutex // guards what follows; never held over a request
	closed   bool
	places   map[string]*lockPlace // by the key of their claims
	numbered uint64                // the highest number given
	free     []uint64              // numbers given back
}

// SessionOption changes a [Session]: [WithSessionTTL].
type SessionOption interface{ applySession(*sessionOptions) }

type sessionOptions struct{ ttl time.Duration }

// WithSessionTTL sets the time to live of the session's lease, as [WithLockTTL] does for a
// lock's. The default is [DefaultLockTTL].
func WithSessionTTL(ttl time.Duration) SessionOption { return sessionTTLOption(ttl) }

type sessionTTLOption time.Duration

func (ttl sessionTTLOption) applySession(o *sessionOptions) { o.ttl = time.Duration(ttl) }

// NewSession grants a lease and keeps it alive until [Session.Close], the end of the client, or
// its loss. It takes one round trip, of at most [Config.RequestTimeout] if ctx has no deadline.
// The end of ctx doesn't end the session. It fails with [ErrInvalidTTL] for a time to live that
// the server can't have.
func (c *Client) NewSession(ctx context.Context, opts ...SessionOption) (*Session, error) {
	const op = "new session"
	if err := c.admit(ctx); err != nil {
		return nil, fail(op, "", err)
	}
	o := sessionOptions{ttl: DefaultLockTTL}
	if err := optionsOf(opts, &o, SessionOption.applySession); err != nil {
		return nil, fail(op, "", err)
	}
	seconds, err := checkTTL(o.ttl)
	if err != nil {
		return nil, fail(op, "", err)
	}
	lease, err := c.renewals.newSession(ctx, seconds)
	if err != nil {
		return nil, ofCall(op, "", err)
	}
	return &Session{client: c, lease: lease, places: map[string]*lockPlace{}}, nil
}

// Client returns the client that the session was made with.
func (s *Session) Client() *Client { return s.client }

// Lease returns the lease, for keys that are to end with the session ([WithLease]).
func (s *Session) Lease() LeaseID { return s.lease.id }

// TTL returns the time to live that the server granted: at least what was asked for.
func (s *Session) TTL() time.Duration { return s.lease.ttl }

// Context returns a context that lives while the lease can be relied upon: it ends before
// another process can see the lease end. Its [context.Cause] is [ErrLeaseLost] with the reason,
// or [ErrClosed] after [Session.Close] or [Client.Close].
func (s *Session) Context() context.Context { return promptContext{s.lease.ctx, s.lease.look} }

// usableBy returns why a claim of that client can't be on the session, or nil.
func (s *Session) usableBy(c *Client) error {
	if s.client != c {
		return fmt.Errorf("%w: session of another client", ErrInvalidArgument)
	}
	if err := c.admit(context.Background()); err != nil {
		return err
	}
	if !s.lease.alive() {
		return s.lease.ended()
	}
	return nil
}

// Close ends the session and revokes its lease, in one round trip: every key attached to it is
// deleted. Locks on it that are still held are lost: their contexts end with [ErrLockLost] and
// [ErrClosed] before the lease does. If the server can't be reached, Close returns the error,
// and the lease is revoked in the background, or ends after its time to live at the latest.
// After the first call Close returns nil. Close the session before its client.
func (s *Session) Close(ctx context.Context) error {
	const op = "close session"
	if ctx == nil {
		return fail(op, "", ErrNilContext)
	}
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed || s.client.rpc.IsClosed() {
		return nil
	}
	err := s.lease.close(ctx)
	if err != nil {
		s.client.giveUpLease(s.lease.id, true)
	}
	return ofCall(op, "", err)
}
