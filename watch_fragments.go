package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// fragments reports whether the next registration asks for fragments.
func (w *watcher) fragments() bool {
	return w.size.fragment || w.size.events > 0 && w.size.bytes/w.size.events >= largeEvent
}

// tooLarge chooses how to go on after a response that was too large: in fragments if the
// values are large, otherwise on a stream of its own, whose only limit is gRPC's. If even
// that is exceeded, fragments are the last resort.
func (w *watcher) tooLarge(ctx context.Context) {
	if w.size.sampled {
		w.size.fragment = true
		return
	}
	w.size.sampled, w.own = true, true
	if w.size.events > 0 {
		w.size.fragment = w.fragments()
		return
	}
	resp, err := do(ctx, w.conn, request{op: "watch", key: w.key}, w.conn.rpc.Get, &pb.RangeRequest{
		Key: w.keys.Start, RangeEnd: w.keys.End, Limit: sampleKeys, Serializable: true,
	})
	n := 0
	for _, kv := range resp.GetKvs() {
		n += len(kv.Key) + len(kv.Value) + eventOverhead
	}
	// If no key is left, either deletions were too large, or the values before them.
	w.size.fragment = err != nil || n > largeEvent*len(resp.GetKvs()) || n == 0 && w.opts.prevKV
}

// sampleKeys is how many keys are read to learn how large values are.
const sampleKeys = 4
