package queue

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/blueprint-go/etcd"
)

// leaseIn returns the lease that a key under a prefix names.
func leaseIn(key, prefix string) (etcd.LeaseID, bool) {
	id, err := strconv.ParseInt(strings.TrimPrefix(key, prefix), 16, 64)
	return etcd.LeaseID(id), err == nil && strings.HasPrefix(key, prefix)
}

// register makes this process known as a consumer: by a key that stays, for those who come after
// it, and by one that lives with the session.
func (q *store) register(ctx context.Context, s *etcd.Session) error {
	_, err := q.client.Txn().Then(
		etcd.OpPut(q.consumerKey(s.Lease()), nil),
		etcd.OpPut(q.alive(s.Lease()), nil, etcd.WithLease(s.Lease())),
	).Commit(ctx)
	return err
}

// succession is how many jobs of a lost consumer are read at once.
const succession = 100

// succeed has the jobs of a lost consumer wait again, and forgets it. Nothing can be claimed for
// it any more. What fails for the moment is left to the next look, by anyone.
func (q *store) succeed(ctx context.Context, id etcd.LeaseID) error {
	for {
		left, err := q.inherit(ctx, id)
		switch {
		case isTransient(err):
			return nil
		case err != nil || left == 0:
			return err
		}
	}
}

// inherit has some jobs of a lost consumer wait again, and forgets it if it has none. It returns
// how many may be left.
func (q *store) inherit(ctx context.Context, id etcd.LeaseID) (int, error) {
	lost, prefix := etcd.Missing(q.alive(id)), q.under(running)+id.String()+"/"
	res, err := q.client.Txn().
		If(lost, etcd.PrefixEmpty(prefix)).
		Then(etcd.OpDelete(q.consumerKey(id))).
		Else(etcd.OpListPrefix(prefix, etcd.WithLimit(succession))).
		Commit(ctx)
	if err != nil || res.Succeeded {
		return 0, err
	}
	found := 0
	for _, kv := range res.Results[0].KVs {
		e, _, ok := q.parse(kv.Key)
		if !ok {
			continue
		}
		to, err := q.again(e, 0)
		if err != nil {
			return 0, err
		}
		res, err := q.client.Txn().
			If(etcd.CreateRevision(kv.Key).Equal(kv.CreateRevision), lost).
			Then(etcd.OpDelete(kv.Key), to.op()).
			Commit(ctx)
		if err != nil {
			return 0, err
		}
		if !res.Succeeded {
			continue
		}
		found++
		q.options.logger.Info("queue: job of a lost consumer waits again", "queue", q.name, "job", e.id, "attempts", e.attempts)
		q.tellUsedUp(e)
	}
	return found, nil
}

// whereabouts is where a job is that no consumer has, and what is noted there.
type whereabouts struct {
	key  string
	note []byte
}

func (w whereabouts) op() etcd.Op { return etcd.OpPut(w.key, w.note) }

// again returns the place where a job waits for its next attempt, after a delay, or its place
// among the dead ones after its last.
func (q *store) again(e entry, delay time.Duration) (whereabouts, error) {
	if e.attempts >= q.options.maxAttempts {
		return q.among(e, reasonAttempts)
	}
	e.due, e.consumer = now().Add(delay).UnixNano(), 0
	return whereabouts{key: q.key(delayed, e)}, nil
}
