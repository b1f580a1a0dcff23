package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/blueprint-go/etcd/internal/errs"
)

// session is a lease that is kept alive for as long as its owner needs it, and that knows
// when it can no longer be relied upon.
//
// Its context ends before another process can see the lease end: the time runs from the
// moment at which the last successful renewal was sent, which is before the server starts
// counting, less a margin for the delay until the owner notices. The clock is the
// monotonic one.
type session struct {
	renewals *renewals
	id       LeaseID
	ttl      time.Duration
	margin   time.Duration
	// ctx ends with the session; its cause is the reason.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// until is how long after began the lease can be relied upon; expiry ends the session
	// then.
	began  time.Time
	until  atomic.Int64
	expiry *time.Timer
	// told is called after each renewal, if it is not nil.
	told func(ttl time.Duration)

	// next is when the lease is renewed next, place the session's place in the queue, and
	// reason why the last renewal was refused; the mu of renewals guards them.
	next   time.Time
	place  int
	reason error
}

// errSessionClosed is the cause of a session that its owner closed.
var errSessionClosed error = closedError("session is closed")

// errNotRenewed is a reason for ErrLeaseLost.
var errNotRenewed = errors.New("could not be renewed in time")

// sessionMargin is how long before its end the lease of a lock counts as lost: a tenth,
// which is longer than pauses of the garbage collector and the scheduler, and at most a
// second.
func sessionMargin(ttl time.Duration) time.Duration { return min(ttl/10, time.Second) }

// newSession grants a lease and keeps it alive until close, abandon, or the end of the
// client or the lease.
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

// beginSession begins the time of a session whose lease was granted or last renewed by a
// request sent at sent.
func (r *renewals) beginSession(id LeaseID, sent time.Time, ttl, margin time.Duration) *session {
	s := &session{renewals: r, id: id, ttl: ttl, margin: margin, began: sent, place: unplaced}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.expiry = time.AfterFunc(ttl, s.expire)
	s.extend(sent, ttl)
	return s
}

// renewed records a renewal whose request was sent at sent.
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

// interval is how long after one renewal the next is due. It is shortened a little at
// random, so that clients that came back together don't stay together.
func (s *session) interval() time.Duration {
	d := s.ttl / renewalsPerTTL
	return d - rand.N(d/16+1)
}

// expire ends a session whose time has passed.
func (s *session) expire() {
	if left := time.Duration(s.until.Load()) - time.Since(s.began); left > 0 {
		s.expiry.Reset(left) // it was renewed in between
		return
	}
	s.end(errs.WithKind(ErrLeaseLost, errs.WithKind(errNotRenewed, s.renewals.reason(s))))
}

// end ends the session; the first cause counts.
func (s *session) end(cause error) {
	s.cancel(cause)
	s.expiry.Stop()
	s.renewals.drop(s)
}

// alive reports whether the lease can still be relied upon. It also checks the clock:
// after a pause of the process, its caller may run before the timer that ends the
// context.
func (s *session) alive() bool {
	return s.ctx.Err() == nil && time.Since(s.began) < time.Duration(s.until.Load())
}

// look ends the session if its time has passed: see promptContext.
func (s *session) look() {
	if s.ctx.Err() == nil && !s.alive() {
		s.expire()
	}
}

// ended returns why the lease can no longer be relied upon.
func (s *session) ended() error {
	if cause := context.Cause(s.ctx); cause != nil {
		return cause
	}
	return ErrLeaseLost // the timer is late
}

// close ends the session and revokes its lease, which deletes its keys.
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

// abandon ends the session without waiting for the server: its lease is revoked in the
// background, or ends by itself after its time to live at the latest.
func (s *session) abandon() {
	s.end(errSessionClosed)
	s.renewals.conn.giveUpLease(s.id, true)
}
