package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/blueprint-go/etcd/internal/errs"
)

// session is a lease that is kept alive for as long as its owner needs it, and
// that knows when it can no longer be relied upon.
//
// Its context ends before another process can see the lease end: the time runs
// from the moment at which the last successful renewal was sent, which is
// earlier than the server's own start of counting, less a margin for the delay
// between that moment and the owner noticing. The clock is the monotonic one.
type session struct {
	renewals *renewals
	id       LeaseID
	ttl      time.Duration
	margin   time.Duration
	// ctx ends with the session; its cause is why.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// until is how long after began the lease can be relied upon, and expiry is
	// what ends the session then.
	began  time.Time
	until  atomic.Int64
	expiry *time.Timer
	// told is called after each renewal, if it is not nil.
	told func(ttl time.Duration)

	// When the lease is renewed next, the place in the queue for that, and why the
	// last renewal was refused; guarded by the mu of renewals.
	next   time.Time
	place  int
	reason error
}

// errSessionClosed is the cause of a session that its owner closed.
var errSessionClosed = errors.New("session closed")

// sessionMargin is how long before its end the lease of a lock counts as lost: a
// tenth, which pauses of the garbage collector and of the scheduler stay under, and
// no more than a second.
func sessionMargin(ttl time.Duration) time.Duration { return min(ttl/10, time.Second) }

// newSession grants a lease and keeps it alive until close, abandon, or the end of
// the client or the lease.
func (r *renewals) newSession(ctx context.Context, ttlSeconds int64) (*session, error) {
	sent := time.Now()
	resp, err := r.conn.grantLease(ctx, ttlSeconds)
	if err != nil {
		return nil, err
	}
	ttl := time.Duration(resp.TTL) * time.Second
	s := r.beginSession(LeaseID(resp.ID), sent, ttl, sessionMargin(ttl))
	if err := r.keep(s); err != nil {
		s.end(err)
		return nil, fail("grant", "", err)
	}
	return s, nil
}

// beginSession begins the time of a session whose lease was asked for, or last
// renewed by a request, at sent.
func (r *renewals) beginSession(id LeaseID, sent time.Time, ttl, margin time.Duration) *session {
	s := &session{renewals: r, id: id, ttl: ttl, margin: margin, began: sent, place: unplaced}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.expiry = time.AfterFunc(ttl, s.expire)
	s.extend(sent, ttl)
	return s
}

// renewed notes a renewal whose request was sent at that time.
func (s *session) renewed(sent time.Time, ttl time.Duration) {
	s.extend(sent, ttl)
	if s.told != nil && s.ctx.Err() == nil {
		s.told(ttl)
	}
}

func (s *session) extend(sent time.Time, ttl time.Duration) {
	until := sent.Add(ttl - s.margin)
	s.until.Store(int64(until.Sub(s.began)))
	s.expiry.Reset(time.Until(until))
}

// interval is how long after one renewal the next is due. It is cut a little at
// random, so that clients which came back together don't stay together.
func (s *session) interval() time.Duration {
	d := s.ttl / renewalsPerTTL
	return d - rand.N(d/16+1)
}

// expire ends a session whose time has passed.
func (s *session) expire() {
	if left := time.Duration(s.until.Load()) - time.Since(s.began); left > 0 {
		s.expiry.Reset(left) // a renewal has come in between
		return
	}
	s.end(errs.WithKind(ErrLeaseLost, s.renewals.reason(s)))
}

// end ends the session; the first cause counts.
func (s *session) end(cause error) {
	s.cancel(cause)
	s.expiry.Stop()
	s.renewals.drop(s)
}

// alive reports whether the lease can still be relied upon. It looks at the clock
// as well: after a pause of the process its caller may run before the timer that
// ends the context.
func (s *session) alive() bool {
	return s.ctx.Err() == nil && time.Since(s.began) < time.Duration(s.until.Load())
}

// close ends the session and revokes its lease, and with it its keys.
func (s *session) close(ctx context.Context) error {
	s.end(errSessionClosed)
	returned := false
	defer func() { // a hook may panic before the request is sent
		if !returned {
			s.renewals.conn.giveUpLease(s.id, true)
		}
	}()
	err := s.renewals.conn.endLease(ctx, s.id)
	returned = true
	return err
}

// abandon ends the session without waiting for the server: its lease is revoked
// in the background, or ends by itself at the latest after its time to live.
func (s *session) abandon() {
	s.end(errSessionClosed)
	s.renewals.conn.giveUpLease(s.id, true)
}
