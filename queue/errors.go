package queue

import (
	"errors"
	"fmt"
	"slices"

	"github.com/blueprint-go/etcd"
)

var (
	// ErrClaimLost says that a job is no longer this consumer's: it is the cause of a
	// [Job.Context] that ended because the lease of the consumer could no longer be relied
	// upon, or because the context of [Queue.Pop] ended and the job was given back, and the
	// error of [Job.Ack] and its neighbours when another consumer may have the job. What was
	// to be done with the acknowledgement is certainly not done. The reason is in its chain:
	// [etcd.ErrLeaseLost], [etcd.ErrClosed], or the end of Pop's context.
	ErrClaimLost = errors.New("claim to the job lost")

	// ErrSettled is returned by [Job.Ack], [Job.AckWith], [Job.Nack] and [Job.Bury] for a job
	// that one of them has settled before, also by a request whose outcome was in doubt until
	// now. What the failed call was to do is certainly not done, unless [etcd.MaybeApplied]
	// reports true.
	ErrSettled = errors.New("job is settled already")

	// ErrEmpty is returned by [Queue.TryPop] when no job is due.
	ErrEmpty = errors.New("no job is due")

	// ErrFull is returned by [Queue.Push] when the queue holds as many jobs as
	// [WithCapacity] says. The job is certainly not in it.
	ErrFull = errors.New("queue is full")

	// ErrNotDead is returned by [Queue.Requeue] and [Queue.Discard] when no dead job has
	// that ID.
	ErrNotDead = errors.New("no dead job of that ID")
)

// UndecodableError is the error of [Queue.Pop] for a job whose value can't be decoded. The job
// was moved to the dead ones by then and is as it was: see [Queue.Dead]. The others are not
// affected: call Pop again.
type UndecodableError struct {
	// ID is that of the job, see [Job.ID].
	ID string
	// Err is the reason: a [*etcd.DecodeError], with [etcd.ErrUnknownKey] also for an encrypted
	// value where the client doesn't encrypt, or [etcd.ErrKeyNotFound] if somebody deleted
	// the value.
	Err error
}

// Error implements error. The text holds no value.
func (e *UndecodableError) Error() string {
	return fmt.Sprintf("job %s can't be decoded: %v", e.ID, e.Err)
}

// Unwrap returns e.Err.
func (e *UndecodableError) Unwrap() error { return e.Err }

// lostError is an ErrClaimLost with its reason.
type lostError struct{ reason error }

func (e *lostError) Error() string { return ErrClaimLost.Error() + ": " + e.reason.Error() }

func (e *lostError) Unwrap() []error { return []error{ErrClaimLost, e.reason} }

// errClosed is the etcd.ErrClosed of a queue whose client is open.
var errClosed error = closedError("queue is closed")

type closedError string

func (e closedError) Error() string { return string(e) }

// Is reports that e is an ErrClosed.
func (closedError) Is(target error) bool { return target == etcd.ErrClosed }

// errSettled ends the context of a settled job.
var errSettled = errors.New("job is settled")

// fail returns the error of a call of this package that has no error of a request.
func (q *store) fail(op string, err error) error {
	return &etcd.Error{Op: op, Key: q.name, Err: err}
}

// as returns what has failed, some of which may be nil, as the error of a call of this package: an
// error of a request says what was asked of the queue, and keeps everything else. It returns nil if
// nothing has failed.
func (q *store) as(op string, errs ...error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		if failed, ok := errs[0].(*etcd.Error); ok { //nolint:errorlint // one that is joined to others stays
			named := *failed
			named.Op, named.Key = op, q.name
			return &named
		}
		return q.fail(op, errs[0])
	}
	return q.fail(op, errors.Join(errs...))
}
