package queue

import (
	"context"
	"errors"
	"time"

	"github.com/blueprint-go/etcd"
)

// lookAgain is how long the consumer at the head of the line trusts its watch and its timer
// before it looks at everything again: the clock may have been set.
const lookAgain = 10 * time.Second

// inLine waits in the line, then at its head, for a job. It returns nil if a lock or the session
// was lost.
func (q *store) inLine(ctx context.Context, s *etcd.Session) (c *claim, b body, err error) {
	line, err := q.line(ctx)
	if err != nil {
		return nil, body{}, err
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.Context(), cancel)()
	if err := line.Lock(waiting); err != nil {
		return nil, body{}, err
	}
	// The next one in line needn't wait for this call, nor this call for the answer. If the queue
	// is closed, so is the lock.
	defer q.begin(func(ctx context.Context) { _ = line.Unlock(context.WithoutCancel(ctx)) })
	defer context.AfterFunc(line.Context(), cancel)()
	if c, b, err = q.atHead(waiting, s); waiting.Err() != nil && ctx.Err() == nil {
		err = nil // what was lost is replaced
	}
	return c, b, err
}

// atHead waits at the head of the line for a job.
func (q *store) atHead(ctx context.Context, s *etcd.Session) (*claim, body, error) {
	for n := 0; ; n++ {
		found, err := q.lookAtAll(ctx)
		if err != nil {
			return nil, body{}, err
		}
		if c, b, err := q.fromStock(ctx, s); c != nil || err != nil {
			return c, b, err
		}
		c, b, err := q.watch(ctx, s, found)
		switch {
		case c != nil:
			return c, b, nil
		case ctx.Err() != nil:
			return nil, body{}, context.Cause(ctx)
		case errors.Is(err, etcd.ErrCompacted), errors.Is(err, etcd.ErrRevisionRegressed), isTransient(err):
			pause(ctx, n) // look again
		case err != nil:
			return nil, body{}, err
		}
	}
}

// watch takes the next job that comes after a look. It returns nil when it is time to look again.
func (q *store) watch(ctx context.Context, s *etcd.Session, from seen) (*claim, body, error) {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := lookAgain
	if !from.due.IsZero() {
		wait = min(wait, time.Until(from.due))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	events := q.client.WatchPrefix(watching, q.news(), etcd.WithRevision(from.revision+1))
	v := vigil{store: q, due: from.due}
	for {
		select {
		case <-timer.C:
			return nil, body{}, nil
		case <-q.stock.freed:
		case resp, ok := <-events:
			if !ok || resp.Err() != nil {
				return nil, body{}, resp.Err()
			}
			if err := v.heed(ctx, resp.Events); err != nil {
				return nil, body{}, err
			}
		}
		if c, b, err := q.fromStock(ctx, s); c != nil || err != nil {
			return c, b, err
		}
		if v.sooner {
			v.sooner = false
			timer.Reset(min(lookAgain, time.Until(v.due)))
		}
	}
}

// vigil is what the consumer at the head of the line remembers of the events that it has seen.
type vigil struct {
	store  *store
	due    time.Time // when the first of the delayed jobs is due, as far as is known
	sooner bool      // due has changed
}

// heed learns from events which jobs may be claimed, and succeeds consumers that were lost.
func (v *vigil) heed(ctx context.Context, events []*etcd.Event) error {
	q := v.store
	for _, ev := range events {
		if id, ok := leaseIn(ev.Kv.Key, q.living()); ok && ev.Type == etcd.EventDelete {
			if err := q.succeed(ctx, id); err != nil {
				return err
			}
			continue
		}
		e, p, ok := q.parse(ev.Kv.Key)
		switch due := time.Unix(0, e.due); {
		case !ok:
		case ev.Type == etcd.EventDelete:
			q.stock.gone(ev.Kv.Key)
		case p == ready || !due.After(now()):
			q.stock.add(candidate{ev.Kv.Key, ev.Kv.CreateRevision, e}, p)
		case v.due.IsZero() || due.Before(v.due):
			v.due, v.sooner = due, true
		}
	}
	return nil
}
