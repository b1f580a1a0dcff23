package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/blueprint-go/etcd"
)

// ack removes the job together with what the caller wants done.
func (c *claim) ack(ctx context.Context, ops []etcd.Op) error {
	return c.settle(ctx, ending{wish: wish{kind: acked, ops: ops}, over: ErrSettled})
}

// nack has the job wait again, after a delay, or moves it to the dead ones if this was its last
// attempt.
func (c *claim) nack(ctx context.Context, delay time.Duration) error {
	if delay < 0 || now().Add(delay).UnixNano() < 0 {
		return fmt.Errorf("%w: delay of %v", etcd.ErrInvalidArgument, delay)
	}
	to, err := c.store.again(c.entry, delay)
	if err != nil {
		return err
	}
	if err = c.settle(ctx, ending{wish: wish{kind: nacked, delay: delay}, to: to, over: ErrSettled}); err == nil {
		c.store.tellUsedUp(c.entry)
	}
	return err
}

// bury moves the job to the dead ones.
func (c *claim) bury(ctx context.Context, reason string, cause error) error {
	to, err := c.store.among(c.entry, reason)
	if err != nil {
		return err
	}
	if err := c.settle(ctx, ending{wish: wish{kind: buried, reason: reason}, to: to, over: ErrSettled}); err != nil {
		return err
	}
	c.store.tellDead(c.entry, reason, cause)
	return nil
}

// ending is how a claim ends.
type ending struct {
	wish
	to   whereabouts // where the job goes, unless it is removed
	over error       // what later calls are told
}

// wish is what a caller asked for that ends a claim.
type wish struct {
	kind   endingKind
	ops    []etcd.Op     // with an Ack
	delay  time.Duration // of a Nack
	reason string        // of a Bury
}

type endingKind int

const (
	acked endingKind = iota
	nacked
	buried
)

// writes returns the operations that end a claim.
func (c *claim) writes(as ending) []etcd.Op {
	ops := []etcd.Op{etcd.OpDelete(c.key())}
	if as.kind != acked {
		return append(ops, as.to.op())
	}
	return append(append(ops, etcd.OpDelete(c.store.job(c.entry.id))), as.ops...)
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
	inDoubt := false
	for n := 0; ; n++ {
		if lost := c.lost(); lost != nil && len(c.doubt) == 0 {
			return lost
		}
		res, err := c.store.client.Txn().If(c.held()).Then(c.writes(as)...).Commit(ctx)
		switch {
		case err == nil && res.Succeeded:
			c.end(as.over, errSettled)
			return nil
		case err == nil:
			return c.gone(ctx, as, inDoubt)
		case !etcd.MaybeApplied(err):
			return c.uncertain(err)
		}
		if !inDoubt {
			inDoubt, c.doubt = true, append(c.doubt, as)
		}
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
	if failed, ok := err.(*etcd.Error); ok && len(c.doubt) > 0 { //nolint:errorlint // one that is joined to others stays
		named := *failed
		named.MaybeApplied = true
		return &named
	}
	return err
}

// giveBack has the job wait again, as one that nobody tried if untried is true.
// It is for claims whose user has left, for a reason: it goes on until the claim is over.
func (c *claim) giveBack(ctx context.Context, untried bool, why error) {
	e := c.entry
	if untried {
		e.attempts--
	}
	c.leave(ctx, e, 0, why)
}

// leave is giveBack of a job as an entry says, which then waits for a delay.
func (c *claim) leave(ctx context.Context, e entry, delay time.Duration, why error) {
	q := c.store
	to, err := q.again(e, delay)
	if err != nil {
		return // nothing in it could be wrong
	}
	for n := 0; ; n++ {
		err := c.settle(ctx, ending{wish: wish{kind: nacked, delay: delay}, to: to, over: &lostError{why}})
		if err == nil {
			q.tellUsedUp(e)
		}
		if err == nil || !isTransient(err) || c.lost() != nil || !pause(ctx, n) {
			return
		}
	}
}
