package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/blueprint-go/etcd"
)

// Push puts a job into the queue, in one round trip. It is there exactly once if Push returns
// nil. If Push fails, it is certainly not there unless [etcd.MaybeApplied] reports true;
// [etcd.Client.Settle] can then find out, if the client encrypts.
//
// A job that can't be marshalled fails with [etcd.ErrEncoding], and so does one whose bytes begin
// like an encrypted value where the client doesn't encrypt; one that is too large fails with
// [etcd.ErrTooLarge], and one for which there is no room with [ErrFull].
func (q *Queue[T]) Push(ctx context.Context, value T, opts ...PushOption) error {
	const op = "push"
	if err := q.store.check(ctx); err != nil {
		return q.store.fail(op, err)
	}
	ops, err := q.pushOps(value, opts)
	if err != nil {
		return q.store.fail(op, err)
	}
	if q.store.options.capacity > 0 {
		err = q.store.pushWithin(ctx, ops)
	} else {
		_, err = q.store.client.Txn().Then(ops...).Commit(ctx)
	}
	if err != nil {
		return q.store.as(op, err)
	}
	return nil
}

// PushOps returns the operations that put a job into the queue, for a transaction of the
// caller's own: with other writes, for several queues, or in [Job.AckWith], so that a job is
// followed by another exactly once. It sends nothing, and fails as [Queue.Push] does before that,
// also with [etcd.ErrClosed]. Each call makes one job; commit its operations once, and soon: a job
// that is committed more than two seconds after PushOps may be noticed late, by about ten seconds,
// or a minute while consumers have others to do. [WithCapacity] doesn't hold it back, but it counts.
func (q *Queue[T]) PushOps(value T, opts ...PushOption) ([]etcd.Op, error) {
	const op = "push"
	if q.store.ctx.Err() != nil {
		return nil, q.store.fail(op, errClosed)
	}
	ops, err := q.pushOps(value, opts)
	if err != nil {
		return nil, q.store.fail(op, err)
	}
	return ops, nil
}

func (q *Queue[T]) pushOps(value T, opts []PushOption) ([]etcd.Op, error) {
	o, err := pushOptionsOf(opts)
	if err != nil {
		return nil, err
	}
	data, err := q.encoding.Marshal(value)
	if err != nil {
		return nil, &encodingError{err}
	}
	now := time.Now()
	e, at := entry{id: q.store.newID(now), priority: o.priority}, ready
	if o.delay > 0 {
		e.due, at = now.Add(o.delay).UnixNano(), delayed
	}
	if e.due < 0 {
		return nil, fmt.Errorf("%w: delay of %v", etcd.ErrInvalidArgument, o.delay)
	}
	job := q.store.job(e.id)
	if _, err := etcd.NewTypedWith(q.store.client, q.store.jobs(), raw{}).Decode(etcd.KeyValue{Key: job, Value: data}); err != nil {
		return nil, &encodingError{err} // no consumer like this one could decode it
	}
	return []etcd.Op{etcd.OpPut(job, data), etcd.OpPut(q.store.key(at, e), nil)}, nil
}

// raw is the encoding of bytes as they are.
type raw struct{}

// Marshal implements [etcd.Encoding].
func (raw) Marshal(data []byte) ([]byte, error) { return data, nil }

// Unmarshal implements [etcd.Encoding].
func (raw) Unmarshal(data []byte) ([]byte, error) { return data, nil }

// encodingError is an etcd.ErrEncoding. Its text leaves out what the encoding says, which may
// quote the value.
type encodingError struct{ cause error }

func (e *encodingError) Error() string { return etcd.ErrEncoding.Error() }

func (e *encodingError) Unwrap() []error { return []error{etcd.ErrEncoding, e.cause} }
