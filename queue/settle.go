package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/blueprint-go/etcd"
)

// ack removes the job together with what the caller wants done.
func (c *claim) ack(ctx context.Context, ops []etcd.Op) error {
	ops = append([]etcd.Op{etcd.OpDelete(c.store.job(c.entry.id))}, ops...)
	return c.settle(ctx, ending{ops: ops, ack: true, over: ErrSettled})
}

// nack has the job wait again, after a delay, or moves it to the dead ones if this was its last
// attempt.
func (c *claim) nack(ctx context.Context, delay time.Duration) error {
	if delay < 0 || now().Add(delay).UnixNano() < 0 {
		return fmt.Errorf("%w: delay of %v", etcd.ErrInvalidArgument, delay)
	}
	op, err := c.store.again(c.entry, delay)
	if err != nil {
		return err
	}
	if err = c.settle(ctx, ending{ops: []etcd.Op{op}, over: ErrSettled}); err == nil {
		c.store.tellUsedUp(c.entry)
	}
	return err
}

// bury moves the job to the dead ones.
func (c *claim) bury(ctx context.Context, reason string, cause error) error {
	put, err := c.store.deadOp(c.entry, reason)
	if err != nil {
		return err
	}
	if err := c.settle(ctx, ending{ops: []etcd.Op{put}, over: ErrSettled}); err != nil {
		return err
	}
	c.store.tellDead(c.entry, reason, cause)
	return nil
}

// ending is how a claim ends.
type ending struct {
	ops  []etcd.Op
	ack  bool  // the job is removed
	over error // what later calls are told
}

// settle ends the claim, by operations that are bound to it. A request whose answer is lost is
// sent again: the claim ends once.
func (c *claim) settle(ctx context.Context, as ending) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if c.over != nil {
		return c.over
	}
	for n := 0; ; n++ {
		if lost := c.lost(); lost != nil && !c.doubt {
			return lost
		}
		res, err := c.store.client.Txn().If(c.held()).Then(append([]etcd.Op{etcd.OpDelete(c.key())}, as.ops...)...).Commit(ctx)
		switch {
		case err == nil && res.Succeeded:
			c.end(as.over, errSettled)
			return nil
		case err == nil:
			return c.gone(ctx, as)
		case !etcd.MaybeApplied(err):
			return c.uncertain(err)
		}
		c.doubt, c.acked = true, c.acked || as.ack
		if c.lost() != nil || !pause(ctx, n) {
			return err
		}
	}
}

// lost returns why the claim can't be relied upon, or nil.
func (c *claim) lost() error {
	if s := c.session.Context(); s.Err() != nil {
		return &lostError{context.Cause(s)}
	}
	return nil
}

// uncertain returns an error that says of an earlier request that it may have been applied.
func (c *claim) uncertain(err error) error {
	if failed, ok := err.(*etcd.Error); ok && c.doubt { //nolint:errorlint // one that is joined to others stays
		named := *failed
		named.MaybeApplied = true
		return &named
	}
	return err
}

// gone returns the outcome of a request to settle a claim that no longer stands. An earlier one
// of this claim may have ended it. The claim's turn is held.
func (c *claim) gone(ctx context.Context, as ending) error {
	lost := c.lost()
	if lost == nil {
		lost = &lostError{errGone}
	}
	switch {
	case !c.doubt:
	case !c.acked:
		if as.ack {
			break
		}
		c.end(as.over, errSettled) // whoever ended it, the job is not here any more, nor removed
		return nil
	default:
		applied, err := c.wasAcked(ctx)
		if err != nil {
			return c.uncertain(err)
		}
		if applied {
			c.end(ErrSettled, errSettled)
			if !as.ack {
				return ErrSettled
			}
			return nil
		}
	}
	c.end(lost, lost)
	return lost
}

var errGone = errors.New("its key is gone")

// wasAcked reports whether the claim ended by an Ack. Only its consumer removes a job while the
// claim stands: so it did if the job was gone when the claim was.
func (c *claim) wasAcked(ctx context.Context) (bool, error) {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range c.store.client.Watch(watching, c.key(), etcd.WithRevision(c.created+1), etcd.WithOnly(etcd.EventDelete)) {
		if err := resp.Err(); err != nil {
			return false, err
		}
		for _, ev := range resp.Events {
			there, err := c.store.client.Exists(ctx, c.store.job(c.entry.id), etcd.WithRevision(ev.Kv.ModRevision))
			return !there, err
		}
	}
	return false, context.Cause(ctx)
}

// giveBack has the job wait again, as one that nobody tried if untried is true.
// It is for claims whose user has left, for a reason: it goes on until the claim is over.
func (c *claim) giveBack(ctx context.Context, untried bool, why error) {
	q, e := c.store, c.entry
	if untried {
		e.attempts--
	}
	op, err := q.again(e, 0)
	if err != nil {
		return // nothing in it could be wrong
	}
	for n := 0; ; n++ {
		err := c.settle(ctx, ending{ops: []etcd.Op{op}, over: &lostError{why}})
		if err == nil {
			q.tellUsedUp(e)
		}
		if err == nil || !isTransient(err) || c.lost() != nil || !pause(ctx, n) {
			return
		}
	}
}
