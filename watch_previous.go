package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// addPrevious reads the previous values that a server has left out of events. A server
// notes that a watch wants them only after it has registered it (server/v3,
// etcdserver/api/v3rpc/watch.go), so the first events of a registration may come without.
// The newest are read first, because nothing older than a compacted one can be read.
func (w *watcher) addPrevious(ctx context.Context, events []*mvccpb.Event) error {
	if !w.opts.prevKV {
		return nil
	}
	for i := len(events) - 1; i >= 0; i-- {
		ev := events[i]
		if ev.PrevKv != nil || ev.Kv.ModRevision < w.next || ev.Kv.ModRevision <= w.noPrevious || ev.Kv.CreateRevision == ev.Kv.ModRevision {
			continue
		}
		req := &pb.RangeRequest{Key: ev.Kv.Key, Revision: ev.Kv.ModRevision - 1}
		reading, cancel := context.WithTimeout(ctx, w.conn.cfg.RequestTimeout)
		resp, err := do(reading, w.conn, request{op: "watch", key: w.key}, w.conn.rpc.Get, req)
		cancel()
		switch {
		case err == nil && len(resp.Kvs) == 1:
			ev.PrevKv = resp.Kvs[0]
		case errors.Is(err, ErrCompacted):
			w.noPrevious = ev.Kv.ModRevision
		case err != nil && IsRetryable(err):
			return &judgedError{rpc.Verdict{Kind: ErrUnavailable, Remedy: rpc.RetryRead}, err}
		default:
			// The permission may be gone, which the watch outlives.
		}
	}
	return nil
}
