package queue

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"time"

	"github.com/blueprint-go/etcd"
)

// Reasons of dead jobs, beside those of Bury.
const (
	reasonAttempts    = "attempts used up"
	reasonUndecodable = "value can't be decoded"
)

// Dead is a job that no consumer gets any more: its attempts were used up, its value could not
// be decoded, or it was buried ([Job.Bury]). It stays until [Queue.Requeue] or [Queue.Discard].
type Dead[T any] struct {
	// ID is that of the job, see [Job.ID].
	ID string
	// Value is what was pushed; the zero value with an Err.
	Value T
	// Err says why the value can't be decoded by this process: a [*etcd.DecodeError] or
	// [etcd.ErrKeyUnavailable]; [etcd.ErrKeyNotFound] if somebody deleted it. Otherwise nil.
	Err error
	// Attempts is how often the job was tried.
	Attempts int
	// Priority is that of the job.
	Priority int
	// Pushed is the time of the push.
	Pushed time.Time
	// Since is when the job died, and Reason why. They are zero if what was noted of it
	// can't be decoded.
	Since  time.Time
	Reason string
}

// obituary is what is noted of a dead job.
type obituary struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// among returns the place of a job among the dead ones.
func (q *store) among(e entry, reason string) (whereabouts, error) {
	note, err := json.Marshal(obituary{now().UTC(), reason})
	if err != nil {
		return whereabouts{}, err
	}
	return whereabouts{q.key(dead, e), note}, nil
}

// tellDead logs that a job has died. The reason of a Bury is the caller's, and may hold what no
// log must.
func (q *store) tellDead(e entry, reason string, cause error) {
	if reason != reasonAttempts && reason != reasonUndecodable {
		reason = "buried"
	}
	args := []any{"queue", q.name, "job", e.id, "attempts", e.attempts, "reason", reason}
	if cause != nil {
		args = append(args, "cause", cause)
	}
	q.options.logger.Warn("queue: job is dead", args...)
}

// tellUsedUp is tellDead for a job whose last attempt is over, if it is.
func (q *store) tellUsedUp(e entry) {
	if e.attempts >= q.options.maxAttempts {
		q.tellDead(e, reasonAttempts, nil)
	}
}

// Dead returns the dead jobs, in the order of their pushes, as they were at one revision. It takes
// the round trips of [etcd.Client.Scan] and one for each job. An error is the last thing that
// it yields; what is wrong with one job is in its Err.
func (q *Queue[T]) Dead(ctx context.Context) iter.Seq2[Dead[T], error] {
	const op = "list dead jobs"
	s := q.store
	return func(yield func(Dead[T], error) bool) {
		if err := s.check(ctx); err != nil {
			yield(Dead[T]{}, s.fail(op, err))
			return
		}
		for kv, err := range s.client.Scan(ctx, s.under(dead)) {
			if _, bad := errors.AsType[*etcd.DecodeError](err); err != nil && !bad {
				yield(Dead[T]{}, s.as(op, err))
				return
			}
			e, _, ok := s.parse(kv.Key)
			if !ok {
				continue
			}
			d, err := q.deadJob(ctx, e, kv.Value)
			if err != nil {
				yield(Dead[T]{}, s.as(op, err))
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

// deadJob reads the value of a dead job.
func (q *Queue[T]) deadJob(ctx context.Context, e entry, note []byte) (Dead[T], error) {
	var o obituary
	_ = json.Unmarshal(note, &o) // it adds to what the key says
	d := Dead[T]{
		ID: e.id, Attempts: e.attempts, Priority: e.priority, Pushed: e.pushed(),
		Since: o.Since, Reason: o.Reason,
	}
	value, err := q.values.Get(ctx, e.id)
	_, bad := errors.AsType[*etcd.DecodeError](err)
	switch {
	case err == nil:
		d.Value = value.Value
	case bad, errors.Is(err, etcd.ErrKeyUnavailable), errors.Is(err, etcd.ErrKeyNotFound):
		d.Err = err
	default:
		return d, err
	}
	return d, nil
}

// Requeue has a dead job wait for a consumer again, with all attempts before it. It takes two
// round trips. It fails with [ErrNotDead] if no dead job has that ID.
func (q *Queue[T]) Requeue(ctx context.Context, id string) error {
	return q.store.revive(ctx, "requeue", id, func(e entry) etcd.Op {
		e.attempts = 0
		e.due = now().UnixNano()
		return etcd.OpPut(q.store.key(delayed, e), nil)
	})
}

// Discard deletes a dead job with its value. It takes two round trips. It fails with [ErrNotDead]
// if no dead job has that ID.
func (q *Queue[T]) Discard(ctx context.Context, id string) error {
	return q.store.revive(ctx, "discard", id, func(e entry) etcd.Op { return etcd.OpDelete(q.store.job(e.id)) })
}

// revive ends the death of a job by an operation.
func (q *store) revive(ctx context.Context, op, id string, by func(entry) etcd.Op) error {
	if err := q.check(ctx); err != nil {
		return q.fail(op, err)
	}
	if len(id) != idDigits {
		return q.fail(op, ErrNotDead)
	}
	found, err := q.client.Txn().Then(etcd.OpListPrefix(q.under(dead) + id)).Commit(ctx)
	if err != nil {
		return q.as(op, err)
	}
	for _, kv := range found.Results[0].KVs {
		e, _, ok := q.parse(kv.Key)
		if !ok {
			continue
		}
		res, err := q.client.Txn().If(etcd.CreateRevision(kv.Key).Equal(kv.CreateRevision)).
			Then(etcd.OpDelete(kv.Key), by(e)).Commit(ctx)
		if err != nil {
			return q.as(op, err)
		}
		if res.Succeeded {
			return nil
		}
	}
	return q.fail(op, ErrNotDead)
}
