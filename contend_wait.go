package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/rpc"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// lookAgain is how long a waiter watches the claims before its own before it reads the
// queue again, give or take a fifth. A server before 3.4.34 and 3.5.15 can lose a
// deletion to a compaction (etcd-io/etcd#18089); nobody must wait for that forever.
const lookAgain = 10 * time.Second

// await waits until c holds, by the rule. Whatever wakes it, it asks the rule again.
func (l *contender) await(ctx context.Context, op string, c *claim) error {
	// A waiter whose lease or key is gone has lost its place. Closing the contender or the
	// client ends the session, and so this wait.
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.session.ctx, func() { cancel(nil) })()
	place := c.watched(func(reason error) { cancel(errs.WithKind(ErrLockLost, reason)) })
	if err := l.client.held.add(place...); err != nil {
		return fail(op, l.name, err)
	}
	defer dropAll(place)
	for n := 1; ; n++ {
		wait, err := l.rule.ahead(waiting, l, op, c)
		if err == nil && wait == nil {
			return nil
		}
		if err == nil {
			err = untilLate(waiting, wait)
		}
		switch cause := context.Cause(waiting); {
		case l.isClosing():
			return answered(op, l.name, l.closedReason())
		case !c.session.alive():
			return answered(op, l.name, lockLost(c.session))
		case ctx.Err() != nil:
			return answered(op, l.name, errs.WithDetail(errs.OfContext(ctx), ErrLocked))
		case errors.Is(cause, ErrLockLost):
			return answered(op, l.name, cause)
		case err != nil && !IsRetryable(err):
			return err
		case err != nil:
			rpc.Pause(waiting, l.life.Done(), rpc.Backoff(n))
		}
	}
}

// untilLate calls wait, which it ends when it is time to look again.
func untilLate(ctx context.Context, wait func(context.Context) error) error {
	watching, cancel := context.WithTimeout(ctx, lookAgain*4/5+rand.N(lookAgain*2/5))
	defer cancel()
	err := wait(watching)
	if watching.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

// look reads claims that were made before c, and returns them with the revision at which
// they were there. It fails with ErrLockLost if c is no longer there.
func (l *contender) look(ctx context.Context, op string, c *claim, claims ...*pb.RangeRequest) ([][]*mvccpb.KeyValue, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, l.client.cfg.RequestTimeout) // await may look again
	defer cancel()
	req := &pb.TxnRequest{Compare: []*pb.Compare{c.stands()}}
	for _, read := range claims {
		read.MaxCreateRevision = c.token - 1
		req.Success = append(req.Success, txntree.Range(read))
	}
	resp, err := l.client.sendTxn(ctx, request{op: op, key: l.name}, req)
	if err != nil {
		return nil, 0, err
	}
	if !resp.Succeeded {
		return nil, 0, answered(op, l.name, lostKey)
	}
	if len(resp.Responses) != len(claims) {
		return nil, 0, answered(op, l.name, errIncomplete)
	}
	found := make([][]*mvccpb.KeyValue, len(claims))
	for i, r := range resp.Responses {
		found[i] = r.GetResponseRange().GetKvs()
	}
	return found, resp.Header.GetRevision(), nil
}

// gone waits until a key, as stored, is deleted at revision from or later. Its errors are those of r.
func (c *Client) gone(ctx context.Context, r request, stored []byte, from int64) error {
	return c.goneFrom(ctx, r, keys.Range{Start: stored}, from, func(string) bool { return true })
}

// goneFrom waits until keys in a range, as stored, are deleted at revision from or later, and
// enough says so of one of them. Its errors are those of r, whose caller need not know the keys.
func (c *Client) goneFrom(ctx context.Context, r request, claims keys.Range, from int64, enough func(key string) bool) error {
	w := c.claimWatcher(claims, from, watchOptions{noPut: true})
	err := w.run(ctx, func(resp WatchResponse) bool {
		for _, ev := range resp.Events {
			if enough(ev.Kv.Key) {
				return false
			}
		}
		return true
	})
	if errors.Is(err, errStopped) || errors.Is(err, ErrCompacted) {
		return nil // look again
	}
	if _, ok := err.(*Error); ok { //nolint:errorlint // of a request of the watch
		return ofCall(r.op, r.key, err)
	}
	return answered(r.op, r.key, err)
}

// claimWatcher watches keys of the library's own, as stored, from a revision on.
func (c *Client) claimWatcher(claims keys.Range, from int64, o watchOptions) *watcher {
	o.buffer = watchQueueBytes
	return &watcher{conn: c.conn, hub: c.watches, key: c.visible(claims.Start), keys: claims, next: from, opts: o}
}
