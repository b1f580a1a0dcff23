package etcd

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// session is a lease that is kept alive for as long as its owner needs it, and
// that knows when it can no longer be relied upon.
//
// Its context ends before another process can see the lease end: the time runs
// from the moment at which the last successful renewal was sent, which is
// earlier than the server's own start of counting, less a margin for the delay
// between that moment and the owner noticing.
type session struct {
	client *Client
	id     LeaseID
	// ctx ends with the session; its cause is why.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// ended is closed when the goroutine has ended.
	ended chan struct{}
	// until is how long after began the lease can be relied upon, and expiry is
	// what ends the session then. It is a timer of its own because a renewal may
	// return late, held up by a hook for example.
	began  time.Time
	until  atomic.Int64
	expiry *time.Timer
}

// errSessionClosed is the cause of a session that its owner closed.
var errSessionClosed = errors.New("session closed")

// sessionMargin is how long before its end a lease counts as lost: a tenth, which
// pauses of the garbage collector and of the scheduler stay under, and no more
// than a second.
func sessionMargin(ttl time.Duration) time.Duration { return min(ttl/10, time.Second) }

// newSession grants a lease and keeps it alive in a goroutine that ends with
// close, abandon, the client, or the lease.
func (c *Client) newSession(ctx context.Context, ttlSeconds int64) (*session, error) {
	sent := time.Now()
	resp, err := c.grantLease(ctx, ttlSeconds)
	if err != nil {
		return nil, err
	}
	ttl := time.Duration(resp.TTL) * time.Second
	s := beginSession(sent, ttl)
	s.client, s.id, s.ended = c, LeaseID(resp.ID), make(chan struct{})
	err = c.start(func() {
		defer close(s.ended)
		defer s.expiry.Stop()
		s.cancel(c.keepRenewing(s.ctx, s.id, sent, ttl, s.renewed))
	})
	if err != nil {
		s.expiry.Stop()
		s.cancel(err)
		return nil, fail("grant", "", err)
	}
	return s, nil
}

// beginSession begins the time of a session whose lease was asked for at sent.
func beginSession(sent time.Time, ttl time.Duration) *session {
	s := &session{began: sent}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.expiry = time.AfterFunc(ttl, func() { s.cancel(ErrLeaseLost) })
	s.renewed(sent, ttl)
	return s
}

// renewed notes a renewal whose request was sent at that time.
func (s *session) renewed(sent time.Time, ttl time.Duration) {
	until := sent.Add(ttl - sessionMargin(ttl))
	s.until.Store(int64(until.Sub(s.began)))
	s.expiry.Reset(time.Until(until))
}

// alive reports whether the lease can still be relied upon. It looks at the clock
// as well: after a pause of the process its caller may run before the goroutine
// that ends the context.
func (s *session) alive() bool {
	return s.ctx.Err() == nil && time.Since(s.began) < time.Duration(s.until.Load())
}

// close ends the session and revokes its lease, and with it its keys.
func (s *session) close(ctx context.Context) error {
	s.cancel(errSessionClosed)
	<-s.ended
	return s.client.RevokeLease(ctx, s.id)
}

// abandon ends the session without waiting for the server: its lease is revoked
// in the background, or ends by itself at the latest after its time to live.
func (s *session) abandon() {
	s.cancel(errSessionClosed)
	_ = s.client.start(func() { // a closed client can't revoke: the lease ends by itself
		ctx, cancel := context.WithTimeout(inBackground(context.Background()), s.client.cfg.RequestTimeout)
		defer cancel()
		_ = s.client.RevokeLease(ctx, s.id) // likewise when the server can't be reached
	})
}
