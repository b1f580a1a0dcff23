package queue

import (
	"context"
	"time"

	"github.com/blueprint-go/etcd"
)

// seen is what a look at the head of the queue has found, beside the stock.
type seen struct {
	wide     bool // it went to the ends of the ranges
	revision int64
	due      time.Time // when the first of the delayed jobs is due; zero if none is soon
}

// look reads the head of the queue, in one round trip. Once in the visibility time it looks for
// lost consumers as well: where there is always a job to take, nobody waits at the head of the
// line to notice them.
func (q *store) look(ctx context.Context, wide bool) (seen, error) {
	q.mu.Lock()
	full := time.Since(q.looked) > q.options.visibility
	if full {
		q.looked = time.Now()
	}
	q.mu.Unlock()
	if full {
		return q.lookAtAll(ctx)
	}
	head := q.stock.looking(wide)
	res, err := q.client.Txn().Then(head.ops...).Commit(ctx)
	if err != nil {
		return seen{}, err
	}
	q.stock.note(head, res.Results, res.Revision)
	return seen{wide: head.wide, revision: res.Revision}, nil
}

// lookAtAll is look with the jobs that are due soon and the consumers.
func (q *store) lookAtAll(ctx context.Context) (seen, error) {
	head := q.stock.looking(true)
	soon := timeKey(q.under(delayed), head.began)
	res, err := q.client.Txn().Then(append(head.ops,
		etcd.OpListRange(soon, timeKey(q.under(delayed), head.began.Add(lookAgain)), etcd.WithLimit(1)),
		etcd.OpListPrefix(q.consumers()),
		etcd.OpListPrefix(q.living()),
	)...).Commit(ctx)
	if err != nil {
		return seen{}, err
	}
	q.stock.note(head, res.Results, res.Revision)
	out := seen{wide: true, revision: res.Revision}
	more := res.Results[len(head.ops):]
	for _, kv := range more[0].KVs {
		if e, _, ok := q.parse(kv.Key); ok {
			out.due = time.Unix(0, e.due)
		}
	}
	alive := map[etcd.LeaseID]bool{}
	for _, kv := range more[2].KVs {
		if id, ok := leaseIn(kv.Key, q.living()); ok {
			alive[id] = true
		}
	}
	for _, kv := range more[1].KVs {
		if id, ok := leaseIn(kv.Key, q.consumers()); ok && !alive[id] {
			if err := q.succeed(ctx, id); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}
