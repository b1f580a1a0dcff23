package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/rpc"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// lookAgain is how long a waiter watches the key before its own before it reads the whole
// queue again, give or take a fifth. A server before 3.4.34 and 3.5.15 can lose a
// deletion to a compaction (etcd-io/etcd#18089); nobody must wait for that forever.
const lookAgain = 10 * time.Second

// await waits until nobody is before c in the queue for the lock, which is in the order
// of the create revisions. Each waiter watches only the key before its own, so that a
// release wakes one waiter.
func (l *Lock) await(ctx context.Context, op string, c *claim) error {
	// A waiter whose lease is gone has lost its place. Closing the lock or the client
	// ends the session, and so this wait.
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.session.ctx, cancel)()
	for n := 1; ; n++ {
		before, now, err := l.before(waiting, op, c)
		if err == nil && before == nil {
			return nil
		}
		if err == nil {
			err = l.goneOrLate(waiting, op, before, now+1)
		}
		switch {
		case l.isClosing():
			return answered(op, l.name, l.closedError())
		case !c.session.alive():
			return answered(op, l.name, lockLost(c.session))
		case ctx.Err() != nil:
			return answered(op, l.name, errs.WithDetail(errs.OfContext(ctx), ErrLocked))
		case err != nil && !IsRetryable(err):
			return err
		case err != nil:
			rpc.Pause(waiting, l.closing, rpc.Backoff(n))
		}
	}
}

// goneOrLate waits until a key, as stored, is deleted at revision from or later, or it is
// time to look again.
func (l *Lock) goneOrLate(ctx context.Context, op string, stored []byte, from int64) error {
	watching, cancel := context.WithTimeout(ctx, lookAgain*4/5+rand.N(lookAgain*2/5))
	defer cancel()
	err := l.client.gone(watching, op, stored, from)
	if watching.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

// before returns the key, as stored, directly before claim in the queue, or nil, and the
// revision at which that was so. It fails with ErrLockLost if claim itself is no longer
// there.
func (l *Lock) before(ctx context.Context, op string, claim *claim) ([]byte, int64, error) {
	c := l.client
	queue, err := c.prefixRange(l.prefix)
	if err != nil {
		return nil, 0, fail(op, l.name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout) // await may read it again
	defer cancel()
	resp, err := c.sendTxn(ctx, request{op: op, key: l.name}, &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: claim.stored, Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_CreateRevision{CreateRevision: claim.token},
		}},
		Success: []*pb.RequestOp{txntree.Range(&pb.RangeRequest{
			Key: queue.Start, RangeEnd: queue.End, KeysOnly: true, Limit: 1,
			MaxCreateRevision: claim.token - 1,
			SortTarget:        pb.RangeRequest_CREATE, SortOrder: pb.RangeRequest_DESCEND,
		})},
	})
	if err != nil {
		return nil, 0, err
	}
	if !resp.Succeeded {
		return nil, 0, answered(op, l.name, errs.WithKind(ErrLockLost, ErrLockKeyDeleted))
	}
	if len(resp.Responses) == 0 {
		return nil, 0, answered(op, l.name, fmt.Errorf("%w: answer lacks parts", ErrServer))
	}
	kvs := resp.Responses[0].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		return nil, 0, nil
	}
	return kvs[0].Key, resp.Header.GetRevision(), nil
}

// gone waits until a key, as stored, is deleted at revision from or later.
func (c *Client) gone(ctx context.Context, op string, stored []byte, from int64) error {
	key := c.visible(stored)
	w := &watcher{conn: c.conn, hub: c.watches, key: key, keys: keys.Range{Start: stored}, next: from, opts: watchOptions{noPut: true, buffer: watchQueueBytes}}
	err := w.run(ctx, func(WatchResponse) bool { return false })
	if errors.Is(err, errStopped) || errors.Is(err, ErrCompacted) {
		return nil // look again
	}
	return answered(op, key, err)
}
