package queue

import (
	"context"
	"time"

	"github.com/blueprint-go/etcd"
)

// Job is a job that this consumer has, from [Queue.Pop] until it is settled by [Job.Ack],
// [Job.AckWith], [Job.Nack] or [Job.Bury], or lost. It is safe for concurrent use. A job that is
// neither settled nor lost stays with the consumer as long as the process lives: settle every
// one.
type Job[T any] struct {
	// Value is what was pushed.
	Value T

	claim *claim
}

// ID returns what no other job of the queue has: 24 digits, the first 16 of which are the time of
// the push.
func (j *Job[T]) ID() string { return j.claim.entry.id }

// Attempt returns the number of this attempt at the job: 1 for the first. Every claim counts,
// also one whose consumer died.
func (j *Job[T]) Attempt() int { return j.claim.entry.attempts }

// Priority returns the priority that the job was pushed with.
func (j *Job[T]) Priority() int { return j.claim.entry.priority }

// Pushed returns the time of the push, by the clock of the machine that pushed.
func (j *Job[T]) Pushed() time.Time { return j.claim.entry.pushed() }

// Context returns a context for the work on the job. It lives while the job is this consumer's,
// and has the values of Pop's context. It ends with the cause [ErrClaimLost] before another
// consumer can have the job because the lease could not be renewed; at the end of Pop's
// context, when the job is given back; and with [Queue.Close]. It ends also when the job is
// settled.
//
// A job whose keys somebody deleted by hand is noticed when it is settled.
func (j *Job[T]) Context() context.Context { return j.claim.ctx }

// Held returns a condition for a write that is to be applied only while the job is this
// consumer's ([etcd.WithCondition]).
func (j *Job[T]) Held() etcd.Condition { return j.claim.held() }

// Ack removes the job: it is done. It takes one round trip. It fails with [ErrClaimLost] if the
// job may be another consumer's by now; then the job is certainly not removed.
//
// If the answer is lost, Ack asks again while ctx and the claim live. If it then fails with an
// error for which [etcd.MaybeApplied] reports true, a later call of Ack finds out: it succeeds if
// an earlier Ack or AckWith has removed the job, and fails with [ErrSettled] if a Nack or a Bury
// was applied instead. After any other error than ErrClaimLost and ErrSettled the job is still
// this consumer's.
func (j *Job[T]) Ack(ctx context.Context) error { return j.AckWith(ctx) }

// AckWith is [Job.Ack] with writes of the caller's own in the same transaction, as in
// [etcd.Txn.Then]: they are applied exactly once for the job, or not at all if AckWith fails,
// unless [etcd.MaybeApplied] reports true. Then call it again with the same operations: with
// others it fails with [ErrSettled] if the first ones were applied. So what a job does in etcd is
// done once, although the job may be tried several times. Operations that can't share a
// transaction fail as [etcd.Txn.Commit] says, and then the job is still this consumer's.
func (j *Job[T]) AckWith(ctx context.Context, ops ...etcd.Op) error {
	return j.settle(ctx, "ack", func() error { return j.claim.ack(ctx, ops) })
}

// Nack gives the job back, to be tried again after a delay. Then it comes before those of its
// priority that were pushed after it: a job that fails wants a delay, lest it is tried again at
// once. If this was its last attempt ([WithMaxAttempts]), it is moved to the dead
// ones. It takes one round trip, and fails as [Job.Ack] does: after one in doubt, another Nack of
// the same delay finds out, and anything else fails with [ErrSettled] if it was applied. A
// negative delay fails with [etcd.ErrInvalidArgument].
func (j *Job[T]) Nack(ctx context.Context, delay time.Duration) error {
	return j.settle(ctx, "nack", func() error { return j.claim.nack(ctx, delay) })
}

// Bury moves the job to the dead ones ([Queue.Dead]), with a reason for whoever looks at them;
// it is stored as values are, encrypted if the client encrypts. It takes one round trip, and
// fails as [Job.Ack] does: after one in doubt, another Bury for the same reason finds out.
func (j *Job[T]) Bury(ctx context.Context, reason string) error {
	return j.settle(ctx, "bury", func() error { return j.claim.bury(ctx, reason, nil) })
}

func (j *Job[T]) settle(ctx context.Context, op string, f func() error) error {
	q := j.claim.store
	if ctx == nil {
		return q.fail(op, etcd.ErrNilContext)
	}
	if err := f(); err != nil {
		return q.as(op, err)
	}
	return nil
}
