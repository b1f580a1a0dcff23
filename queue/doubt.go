package queue

import (
	"context"
	"errors"
	"reflect"

	"github.com/blueprint-go/etcd"
)

var errGone = errors.New("its key is gone")

// gone returns the outcome of a request to settle a claim that no longer stands. An earlier one
// of this claim may have ended it, of which the history tells; it is a success of this one only
// if it wished the same. inDoubt says that one of them was this call's. The claim's turn is held.
func (c *claim) gone(ctx context.Context, as ending, inDoubt bool) error {
	lost := c.lost()
	if lost == nil {
		lost = &lostError{errGone}
	}
	if len(c.doubt) == 0 {
		c.end(lost, lost)
		return lost
	}
	fit, err := c.fitting(ctx)
	if err != nil {
		return c.uncertain(err)
	}
	if len(fit) == 0 {
		c.end(lost, lost)
		return lost
	}
	same := 0
	for _, e := range fit {
		if as.metBy(e.wish) {
			same++
		}
	}
	switch {
	case same == len(fit):
		c.end(as.over, errSettled)
		return nil
	case same > 0 && inDoubt:
		err = &etcd.Error{Err: ErrSettled, MaybeApplied: true} // one of several
	default:
		err = ErrSettled
	}
	c.end(ErrSettled, errSettled)
	return err
}

// metBy reports whether what w says is all that was wished. An Ack without operations wishes only
// that the job is removed.
func (as wish) metBy(w wish) bool {
	if as.kind == acked && w.kind == acked && len(as.ops) == 0 {
		return true
	}
	return reflect.DeepEqual(as, w) //nolint:govet // what was sent has no error in it
}

// fitting returns those of the endings in doubt one of which ended the claim; none if something
// else did. An ending removes the claim's key together with what it does to the job, which only
// its consumer removes while the claim stands.
func (c *claim) fitting(ctx context.Context) ([]ending, error) {
	at, err := c.ended(ctx)
	if err != nil {
		return nil, err
	}
	var fit []ending
	for _, e := range c.doubt {
		key := e.to.key
		if e.kind == acked {
			key = c.store.job(c.entry.id)
		}
		there, err := c.store.client.Exists(ctx, key, etcd.WithRevision(at))
		if err != nil {
			return nil, err
		}
		if there == (e.kind != acked) {
			fit = append(fit, e)
		}
	}
	return fit, nil
}

// ended returns the revision at which the claim's key was deleted.
func (c *claim) ended(ctx context.Context) (int64, error) {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range c.store.client.Watch(watching, c.key(), etcd.WithRevision(c.created+1), etcd.WithOnly(etcd.EventDelete)) {
		if err := resp.Err(); err != nil {
			return 0, err
		}
		for _, ev := range resp.Events {
			return ev.Kv.ModRevision, nil
		}
	}
	return 0, context.Cause(ctx)
}
