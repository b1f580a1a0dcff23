package queue

import (
	"context"
	"errors"

	"github.com/blueprint-go/etcd"
)

// Pop returns a job, and waits for one as long as ctx allows. Of the jobs that are due when it
// is called it takes one of the highest priority, the one that has waited longest; of several
// consumers that pop at once each takes one of the first. A job that is there takes two round
// trips, and the first one two more, for the lease.
//
// The job is this consumer's until it is settled: its claim hangs on a lease that is renewed as
// long as the process lives ([WithVisibility]). ctx belongs to the job, as that of a
// database/sql transaction does to the transaction: when it ends before the job is settled, the
// job's context ends and the job is given back. So don't pop with a deadline for the wait alone;
// [Queue.TryPop] doesn't wait.
//
// Consumers that wait form a line, at whose head one watches for jobs that come, become due or
// were lost by others. So a job wakes one consumer, however many wait. If that one is paused or
// cut off, the next one takes its place after about five seconds.
//
// Pop fails with an [*UndecodableError] for a job whose value can't be decoded: call it again. If
// the encryption key of a value is unavailable, it fails with [etcd.ErrKeyUnavailable] and the
// job waits again; so it does if the encoding panics. A lost lease is replaced. If the server
// can't be reached, Pop returns an error for which [etcd.IsRetryable] reports true.
func (q *Queue[T]) Pop(ctx context.Context) (*Job[T], error) {
	return q.pop(ctx, ctx, true)
}

// TryPop is [Queue.Pop] that doesn't wait: it fails with [ErrEmpty] if no job is due, after one
// round trip, or two.
func (q *Queue[T]) TryPop(ctx context.Context) (*Job[T], error) {
	return q.pop(ctx, ctx, false)
}

// pop claims a job, which lives as long as life.
func (q *Queue[T]) pop(ctx, life context.Context, wait bool) (*Job[T], error) {
	const op = "pop"
	s := q.store
	if err := s.check(ctx); err != nil {
		return nil, s.fail(op, err)
	}
	working, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(errClosed) })()
	c, b, err := s.find(working, wait)
	if err != nil {
		if s.ctx.Err() != nil {
			err = errClosed
		}
		return nil, s.as(op, err)
	}
	job := &Job[T]{claim: c}
	if job.Value, err = q.decode(c, b); err == nil {
		c.hold(life)
		return job, nil
	}
	if errors.Is(err, etcd.ErrKeyUnavailable) {
		s.begin(func(ctx context.Context) { c.giveBack(ctx, true, err) })
		return nil, s.as(op, err)
	}
	bad := &UndecodableError{ID: job.ID(), Err: err}
	if err := c.bury(working, reasonUndecodable, bad); err != nil {
		s.begin(func(ctx context.Context) { c.giveBack(ctx, false, err) })
		return nil, s.as(op, err)
	}
	return nil, s.fail(op, bad)
}

// decode returns the value of a job, which is given back if the encoding panics: nobody else has
// the claim yet.
func (q *Queue[T]) decode(c *claim, b body) (value T, err error) {
	if b.err != nil {
		return value, b.err
	}
	returned := false
	defer func() {
		if !returned {
			c.store.begin(func(ctx context.Context) { c.giveBack(ctx, false, errPanic) })
		}
	}()
	out, err := q.values.Decode(b.kv)
	returned = true
	return out.Value, err
}

// find gets a claim; if no job is due it waits for one, or fails with ErrEmpty.
func (q *store) find(ctx context.Context, wait bool) (*claim, body, error) {
	for n := 0; ; n++ {
		s, err := q.session(ctx)
		if err != nil {
			return nil, body{}, err
		}
		c, b, err := q.fromHead(ctx, s)
		if c == nil && err == nil && !wait {
			return nil, body{}, ErrEmpty
		}
		if c == nil && err == nil {
			c, b, err = q.inLine(ctx, s)
		}
		switch {
		case c != nil:
			return c, b, nil
		case err == nil:
		case ctx.Err() != nil:
			return nil, body{}, context.Cause(ctx)
		case errors.Is(err, etcd.ErrLeaseNotFound):
			q.forget(s)
			pause(ctx, n)
		case s.Context().Err() != nil, errors.Is(err, etcd.ErrLockLost):
			pause(ctx, n) // what was lost is replaced
		default:
			return nil, body{}, err
		}
	}
}

// fromHead takes a job from the head of the queue; nil if none is due.
func (q *store) fromHead(ctx context.Context, s *etcd.Session) (*claim, body, error) {
	for _, wide := range []bool{false, true} {
		seen, err := q.look(ctx, wide)
		if err != nil {
			return nil, body{}, err
		}
		c, b, err := q.fromStock(ctx, s)
		if c != nil || err != nil || seen.wide {
			return c, b, err
		}
	}
	return nil, body{}, nil
}

// fromStock takes one of the jobs that are known; nil if none is left.
func (q *store) fromStock(ctx context.Context, s *etcd.Session) (*claim, body, error) {
	for from, ok := q.stock.take(); ok; from, ok = q.stock.take() {
		c, b, err := q.take(ctx, s, from)
		if c != nil || err != nil {
			return c, b, err
		}
	}
	return nil, body{}, nil
}
