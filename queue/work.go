package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/blueprint-go/etcd"
)

const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// Work pops jobs and runs f for each, one after another, until ctx ends, whose cause it returns;
// call it in several goroutines to run several at once. A job is acknowledged when f returns
// nil, unless f has settled it ([Job.AckWith]), and tried again later when f returns an error:
// after about a second the first time, twice as long each further time, at most five minutes.
//
// f gets a context that ends with ctx, and when the job is lost ([Job.Context]). When ctx ends, the
// job stays this consumer's until f has returned: it is acknowledged if f returns nil, and
// otherwise waits again at once. A panic of f reaches the caller of Work; the job is tried again
// then as one that failed.
//
// Work rides out outages, with pauses of up to five seconds. It logs what f returns only as the
// fact that the job failed, jobs that can't be decoded, and failures to settle a job, which is
// then tried again. It returns other errors that another try can't cure, such as
// [etcd.ErrPermissionDenied] and [etcd.ErrClosed].
func (q *Queue[T]) Work(ctx context.Context, f func(ctx context.Context, job *Job[T]) error) error {
	const op = "work"
	s := q.store
	if ctx != nil && f == nil {
		return s.fail(op, fmt.Errorf("%w: nil function", etcd.ErrInvalidArgument))
	}
	for failures := 0; ; {
		job, err := q.workOn(ctx)
		_, bad := errors.AsType[*UndecodableError](err)
		switch {
		case err == nil:
			failures = 0
			if err := q.run(ctx, job, f); err != nil {
				s.options.logger.Warn("queue: job could not be settled", "queue", s.name, "job", job.ID(), "cause", err)
			}
		case ctx != nil && ctx.Err() != nil:
			return s.fail(op, context.Cause(ctx))
		case bad: // was logged when it was moved
		case isTransient(err):
			s.options.logger.Warn("queue: no job can be had", "queue", s.name, "cause", err)
			pause(ctx, failures)
			failures++
		default:
			return s.as(op, err)
		}
	}
}

// workOn pops a job that outlives ctx.
func (q *Queue[T]) workOn(ctx context.Context) (*Job[T], error) {
	if ctx == nil {
		return nil, q.store.fail("work", etcd.ErrNilContext)
	}
	return q.pop(ctx, context.WithoutCancel(ctx), true)
}

// run runs f for a job and settles it as f's result says.
func (q *Queue[T]) run(ctx context.Context, job *Job[T], f func(ctx context.Context, job *Job[T]) error) error {
	running, cancel := context.WithCancelCause(job.Context())
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
	returned := false
	defer func() {
		if !returned {
			q.abandon(ctx, job)
		}
	}()
	failed := f(running, job)
	returned = true
	settling := context.WithoutCancel(ctx)
	var err error
	if failed == nil {
		err = job.Ack(settling)
	} else {
		if err = job.Nack(settling, retryDelay(ctx, job.Attempt())); err == nil {
			q.store.options.logger.Info("queue: job failed", "queue", q.store.name, "job", job.ID(), "attempt", job.Attempt())
		}
	}
	if errors.Is(err, ErrSettled) {
		return nil
	}
	return err
}

// abandon gives a job back whose function panicked. The job's context ends at once.
func (q *Queue[T]) abandon(ctx context.Context, job *Job[T]) {
	c, delay := job.claim, retryDelay(ctx, job.Attempt())
	c.cancel(&lostError{errPanic})
	q.store.begin(func(ctx context.Context) { c.leave(ctx, c.entry, delay, errPanic) })
}

// retryDelay returns the pause after an attempt that failed; none if ctx has ended.
func retryDelay(ctx context.Context, attempt int) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	return backoff(attempt-1, firstRetry, lastRetry)
}
