package queue

import (
	"context"
	"fmt"
	"strings"

	"github.com/blueprint-go/etcd"
)

// Queue is a queue of jobs in etcd, for any number of processes that push and pop. Make one
// with [Open] and end it with [Queue.Close]; the zero value is not usable. It is safe for
// concurrent use: the goroutines of a process had better share one.
type Queue[T any] struct {
	store    *store
	values   *etcd.Typed[T]
	encoding etcd.Encoding[T]
}

// Open returns the queue of that name. It sends nothing: a queue exists when a job is pushed.
// Hooks of the client see the values of ctx with requests that are made in the background; the
// end of ctx means nothing.
//
// Queues of different names share no job, even if one name begins with the other. An empty
// name fails with [etcd.ErrEmptyKey], one that contains a NUL byte or a byte 1 with
// [etcd.ErrInvalidArgument], and one of more than 4 KiB with [etcd.ErrTooLarge].
func Open[T any](ctx context.Context, client *etcd.Client, name string, opts ...Option) (*Queue[T], error) {
	const op = "open queue"
	q := &Queue[T]{encoding: etcd.JSON[T]{}}
	s, err := newStore(ctx, client, name, opts)
	if err == nil && s.options.encoding != nil {
		encoding, ok := s.options.encoding.(etcd.Encoding[T])
		if !ok {
			err = fmt.Errorf("%w: encoding of another type than %T", etcd.ErrInvalidArgument, *new(T))
		}
		q.encoding = encoding
	}
	if err != nil {
		return nil, &etcd.Error{Op: op, Key: name, Err: err}
	}
	q.store = s
	q.values = etcd.NewTypedWith(client, s.jobs(), q.encoding)
	return q, nil
}

// Name returns the name of the queue.
func (q *Queue[T]) Name() string { return q.store.name }

// Close ends the queue in this process. Jobs that were popped and not settled are given back,
// and their contexts end with [ErrClaimLost] and [etcd.ErrClosed]; calls that wait end with
// etcd.ErrClosed, and so do later ones. It waits for the goroutines of the queue, takes a few round
// trips if the queue was popped from, and one for each job that is given back, is idempotent and
// safe for concurrent use. If the server can't be reached it returns the error, after
// [etcd.Config.RequestTimeout] at most, or two seconds more if the server falls silent meanwhile;
// the jobs are then given back when the lease ends. Close the queue before its client.
func (q *Queue[T]) Close() error { return q.store.close() }

func newStore(ctx context.Context, client *etcd.Client, name string, opts []Option) (*store, error) {
	switch {
	case ctx == nil:
		return nil, etcd.ErrNilContext
	case client.Raw() == nil:
		return nil, fmt.Errorf("%w: nil client, or a zero one", etcd.ErrInvalidArgument)
	case name == "":
		return nil, etcd.ErrEmptyKey
	case strings.ContainsAny(name, "\x00"+separator):
		return nil, fmt.Errorf("%w: name of a queue with a byte 0 or 1", etcd.ErrInvalidArgument)
	case len(name) > maxName:
		return nil, fmt.Errorf("%w: name of a queue of %d bytes, at most %d", etcd.ErrTooLarge, len(name), maxName)
	}
	o, err := optionsOf(opts)
	if err != nil {
		return nil, err
	}
	q := &store{
		client: client, name: name, options: o,
		layout: layout{root: name + separator},
		stock:  newStock(layout{root: name + separator}),
		room:   newRoom(), consuming: make(chan struct{}, 1),
	}
	q.ctx, q.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	return q, nil
}
