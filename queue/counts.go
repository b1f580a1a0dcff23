package queue

import (
	"context"

	"github.com/blueprint-go/etcd"
)

// Counts says how many jobs a queue holds, all at one revision.
type Counts struct {
	// Ready is how many wait for a consumer, Delayed how many for a time, by this machine's
	// clock.
	Ready, Delayed int64
	// Running is how many consumers have, including lost consumers until that is noticed.
	Running int64
	// Dead is how many are dead.
	Dead int64
}

// Counts returns how many jobs there are, in one round trip.
func (q *Queue[T]) Counts(ctx context.Context) (Counts, error) {
	const op = "count jobs"
	s := q.store
	if err := s.check(ctx); err != nil {
		return Counts{}, s.fail(op, err)
	}
	waits, one := s.under(delayed), etcd.WithLimit(1)
	due := timeKey(waits, now())
	res, err := s.client.Txn().Then(
		etcd.OpListPrefix(s.under(ready), one), etcd.OpListRange(waits, due, one),
		etcd.OpListRange(due, endOf(waits), one),
		etcd.OpListPrefix(s.under(running), one), etcd.OpListPrefix(s.under(dead), one),
	).Commit(ctx)
	if err != nil {
		return Counts{}, s.as(op, err)
	}
	n := func(i int) int64 { return res.Results[i].Count }
	return Counts{Ready: n(0) + n(1), Delayed: n(2), Running: n(3), Dead: n(4)}, nil
}
