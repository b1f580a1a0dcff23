package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/rpc"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// fencedWrite is a write bound to fences: txn applies it if they stand.
type fencedWrite struct {
	fences *fence
	txn    *pb.TxnRequest
	// told is where the branch for the case that they don't stand, or that the write's own
	// conditions don't hold, begins to tell of the claims, a read for each fence.
	told int
	// nested says that the write is a transaction inside txn.
	nested bool
	// answer is the answer to txn once it is there.
	answer *pb.TxnResponse
}

// verdictPatience is how long a write that is under way when its claim is lost waits for the
// server, which decides, before it ends in doubt.
const verdictPatience = time.Second

// outlasting returns ctx for a write under way: the end of a claim ends it only after
// verdictPatience.
func (f *fence) outlasting(ctx context.Context) (context.Context, context.CancelFunc) {
	outermost := f
	for outermost.around != nil {
		outermost = outermost.around
	}
	out, cancel := detached(ctx)
	end := func() { cancel(context.Cause(ctx)) }
	forget := context.AfterFunc(ctx, func() {
		switch {
		case errors.Is(context.Cause(ctx), ErrLockLost) && outermost.parent.Err() == nil:
			late := time.AfterFunc(verdictPatience, end)
			orphaned := context.AfterFunc(outermost.parent, end)
			context.AfterFunc(out, func() {
				late.Stop()
				orphaned()
			})
		case !errors.Is(ctx.Err(), context.DeadlineExceeded): // which out has too
			end()
		}
	})
	return out, func() {
		forget()
		cancel(nil)
	}
}

// fenced returns the write bound to the fences of ctx; nil if there are none, or if it
// changes no keys.
func (c *conn) fenced(ctx context.Context, in any) (*fencedWrite, error) {
	f := fenceOf(ctx)
	if f == nil {
		return nil, nil
	}
	w := &fencedWrite{fences: f, txn: &pb.TxnRequest{}}
	switch req := in.(type) {
	case *pb.PutRequest:
		w.txn.Success = []*pb.RequestOp{txntree.Put(req)}
	case *pb.DeleteRangeRequest:
		w.txn.Success = []*pb.RequestOp{txntree.Delete(req)}
	case *pb.TxnRequest:
		w.bind(req)
	default:
		return nil, nil
	}
	w.told = len(w.txn.Failure)
	for ; f != nil; f = f.around {
		if f.conn != c {
			return nil, fmt.Errorf("%w: the context is guarded by a lock of another client; Unguarded lets it go", ErrInvalidArgument)
		}
		if err := f.lost(); err != nil {
			return nil, err
		}
		stands := f.claim.stands()
		w.txn.Compare = append(w.txn.Compare, stands)
		w.txn.Failure = append(w.txn.Failure, txntree.Range(&pb.RangeRequest{Key: stands.Key, KeysOnly: true}))
	}
	if n, limit := txntree.Load(w.txn), c.cfg.MaxTxnOps; n > limit {
		return nil, fmt.Errorf("%w: %d over all levels with those of the lock, the limit is %d", ErrTooManyOps, n, limit)
	}
	return w, c.rpc.CheckSize(w.txn)
}

// bind makes txn of a transaction: at its own level, unless it changes keys when its
// conditions don't hold. The slices of the caller stay as they are.
func (w *fencedWrite) bind(req *pb.TxnRequest) {
	if changes(req.Failure) {
		w.txn.Success, w.nested = []*pb.RequestOp{txntree.Txn(req)}, true
		return
	}
	w.txn.Compare = append(w.txn.Compare, req.Compare...)
	w.txn.Success = req.Success
	w.txn.Failure = append(w.txn.Failure, req.Failure...)
}

// judge returns ErrLockLost with the reason if the answer says that a claim is gone, and
// tells its holder.
func (w *fencedWrite) judge(resp *pb.TxnResponse) error {
	w.answer = resp
	if resp.Succeeded {
		return nil
	}
	var lost error
	for i, f := 0, w.fences; f != nil; i, f = i+1, f.around {
		told := resp.Responses[w.told+i].GetResponseRange()
		f.claim.found(told)
		if kvs := told.GetKvs(); lost == nil && (len(kvs) == 0 || kvs[0].CreateRevision != f.claim.stands().GetCreateRevision()) {
			lost = f.lost()
		}
	}
	return lost
}

// unwrapped returns the answer to the write as the server gives it without fences.
func (w *fencedWrite) unwrapped(in any) any {
	resp := w.answer
	switch in.(type) {
	case *pb.PutRequest:
		out := resp.Responses[0].GetResponsePut()
		out.Header = resp.Header
		return out
	case *pb.DeleteRangeRequest:
		out := resp.Responses[0].GetResponseDeleteRange()
		out.Header = resp.Header
		return out
	}
	switch {
	case w.nested:
		out := resp.Responses[0].GetResponseTxn()
		out.Header = resp.Header
		return out
	case !resp.Succeeded:
		resp.Responses = resp.Responses[:w.told]
	}
	return resp
}

// applied returns the answer to a write that was refused for a lost claim, if it proves to have
// been applied before: see replay.
func applied[Out any](ctx context.Context, r request, in any, from rpc.Mark, refused error) (out Out, err error) {
	w := r.fenced
	c := w.fences.conn
	if w.answer == nil || c.firstAnswer == nil {
		return out, refused
	}
	resp, err := c.firstAnswer(ctx, r, w.txn, w.answer, from)
	if err != nil || !resp.Succeeded {
		return out, cmp.Or(err, refused)
	}
	w.answer = resp
	out, _ = w.unwrapped(in).(Out)
	return out, nil
}
