package queue

import (
	"context"
	"errors"

	"github.com/blueprint-go/etcd"
)

// claim is a job that this consumer has.
type claim struct {
	store   *store
	session *etcd.Session
	entry   entry
	created int64 // the create revision of its key
	bid     *bid

	// Set by hold.
	ctx    context.Context
	cancel context.CancelCauseFunc
	unhook []func() bool

	// turn holds one value; whoever puts it in may settle the claim.
	turn chan struct{}
	// What follows is guarded by turn.
	over  error    // why it can't be settled any more
	doubt []ending // those that may have been applied
}

// key returns the key that stands as long as the job is this consumer's. Once the consumer is
// lost, another one deletes it.
func (c *claim) key() string { return c.store.key(running, c.entry) }

// held holds only while the job is this consumer's.
func (c *claim) held() etcd.Condition { return etcd.CreateRevision(c.key()).Equal(c.created) }

// body is the value of a job, or why there is none.
type body struct {
	kv  etcd.KeyValue
	err error
}

// bodyOf returns what a read of a job's value has found.
func bodyOf(r etcd.OpResult) body {
	switch {
	case r.Err != nil:
		return body{err: r.Err}
	case len(r.KVs) == 0:
		return body{err: etcd.ErrKeyNotFound}
	}
	return body{kv: r.KVs[0]}
}

// take claims a job and reads its value, in one transaction. It returns nil if another consumer
// was there first; then the stock is up to date again. The answer to a claim may be lost:
// then it is asked for again, which tells, since a claim is bound to the job's waiting.
func (q *store) take(ctx context.Context, s *etcd.Session, from candidate) (c *claim, b body, err error) {
	c = &claim{store: q, session: s, entry: from.entry, turn: make(chan struct{}, 1)}
	c.entry.attempts++
	c.entry.due, c.entry.consumer = 0, s.Lease()
	key, own := c.key(), q.stock.bid(c.key(), from)
	c.bid = own
	o, resolving := unclear, false
	defer func() {
		switch {
		case resolving:
			return
		case o != inTime:
			q.stock.withdraw(key, own)
		}
		q.stock.settled(from, o) // only now: whoever takes the candidate next must find no other bid
	}()
	inDoubt := false
	for n := 0; ; n++ {
		b, err = c.ask(ctx, from)
		switch {
		case err == nil && c.created == 0:
			o = tooLate
			return nil, body{}, nil
		case err == nil:
			o = inTime
			return c, b, nil
		}
		inDoubt = inDoubt || etcd.MaybeApplied(err)
		if !inDoubt || !isTransient(err) && ctx.Err() == nil {
			break
		}
		if !pause(ctx, n) || q.ctx.Err() != nil || s.Context().Err() != nil {
			break
		}
	}
	if inDoubt {
		resolving = q.resolve(c, from)
	}
	return nil, body{}, err
}

// ask sends a claim; created is 0 afterwards if another consumer has the job.
func (c *claim) ask(ctx context.Context, from candidate) (body, error) {
	q := c.store
	head, alive := q.stock.looking(false), q.alive(c.session.Lease())
	job := etcd.OpGet(q.job(c.entry.id))
	res, err := q.client.Txn().
		If(etcd.CreateRevision(from.key).Equal(from.created), etcd.Exists(alive)).
		Then(job, etcd.OpDelete(from.key), etcd.OpPut(c.key(), nil)).
		Else(append([]etcd.Op{job, etcd.OpListPrefix(c.key()), etcd.OpListPrefix(alive)}, head.ops...)...).
		Commit(ctx)
	if err != nil {
		return body{}, err
	}
	b := bodyOf(res.Results[0])
	if res.Succeeded {
		c.created = res.Revision
		return b, nil
	}
	q.stock.note(head, res.Results[3:], res.Revision)
	if res.Results[2].Count == 0 {
		return body{}, etcd.ErrLeaseNotFound
	}
	if q.stock.isStale(c.bid) { // the key that there may be is another goroutine's
		return b, nil
	}
	for _, kv := range res.Results[1].KVs { // an earlier request for it was applied
		c.created = kv.CreateRevision
	}
	return b, nil
}

// errPanic is why a job is given back whose function, or whose encoding, has not returned.
var errPanic = errors.New("its function panicked, or ended its goroutine")

// errUntaken is why a job is given back that nobody has got.
var errUntaken = errors.New("the call that claimed it has ended")

// resolve finds out in the background whether a claim was applied whose caller has left, and
// gives the job back if so: otherwise nobody would work on it as long as the session lives. Until
// then it keeps other goroutines from the job, whose claims would have the same key. It returns
// false if the queue is closed.
func (q *store) resolve(c *claim, from candidate) bool {
	return q.begin(func(ctx context.Context) {
		defer q.stock.settled(from, unclear)
		defer q.stock.withdraw(c.key(), c.bid) // before that
		for n := 0; ; n++ {
			_, err := c.ask(ctx, from)
			if err == nil {
				break
			}
			if !isTransient(err) || !pause(c.session.Context(), n) || ctx.Err() != nil {
				return
			}
		}
		if c.created != 0 {
			c.giveBack(ctx, true, errUntaken)
		}
	})
}

// hold gives the claim a context, which ends with life, and when the session can no longer be
// relied upon. If life ends first, the job is given back.
func (c *claim) hold(life context.Context) {
	c.turn <- struct{}{} // the hooks may run at once
	defer func() { <-c.turn }()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(life))
	c.ctx, c.cancel = jobContext{ctx, c.session.Context(), cancel}, cancel
	c.unhook = []func() bool{
		context.AfterFunc(c.session.Context(), func() {
			why := context.Cause(c.session.Context())
			c.store.stock.withdraw(c.key(), c.bid)
			if ctx.Err() == nil && !errors.Is(why, etcd.ErrClosed) {
				c.store.options.logger.Warn("queue: claim lost", "queue", c.store.name, "job", c.entry.id, "cause", why)
			}
			cancel(&lostError{why})
		}),
		context.AfterFunc(life, func() {
			why := context.Cause(life)
			c.cancel(&lostError{why})
			c.store.begin(func(ctx context.Context) { c.giveBack(ctx, false, why) })
		}),
	}
}

// jobContext is a context whose Err looks at the session first: after a pause of the process, its
// caller may run before what ends the context.
type jobContext struct {
	context.Context
	session context.Context
	cancel  context.CancelCauseFunc
}

func (c jobContext) Err() error {
	if c.Context.Err() == nil && c.session.Err() != nil {
		c.cancel(&lostError{context.Cause(c.session)})
	}
	return c.Context.Err()
}

// end ends the context of a claim that is over. The claim's turn must be held.
func (c *claim) end(over, cause error) {
	c.over = over
	c.store.stock.withdraw(c.key(), c.bid)
	if c.cancel == nil {
		return
	}
	for _, stop := range c.unhook {
		stop()
	}
	c.cancel(cause)
}
