package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// history is what a watch knows of the history that its position is in. A restore
// from a backup brings an older one back, in which the position may not exist for
// long: a watch there would be silent until it does, and then miss the beginning.
type history struct {
	cluster uint64
	known   int64 // the newest revision that has been seen
}

func (h *history) saw(revision int64) { h.known = max(h.known, revision) }

// contradicts reports whether a header can't be from the same history, unless its
// sender lags behind.
func (h *history) contradicts(header *pb.ResponseHeader) bool {
	id := header.GetClusterId()
	return header.GetRevision() < h.known || id != 0 && h.cluster != 0 && id != h.cluster
}

// checkHistory takes in the header of a new registration. It fails with
// ErrRevisionRegressed when the history that the watch is in is gone, which a
// linearizable read confirms: the member may only lag behind.
func (w *watcher) checkHistory(ctx context.Context, header *pb.ResponseHeader) error {
	if w.history.contradicts(header) {
		resp, err := w.look(ctx, false)
		if err != nil {
			return &judgedError{rpc.Verdict{Kind: ErrUnavailable, Remedy: rpc.RetryRead}, err}
		}
		if w.history.contradicts(resp.Header) {
			w.conn.rpc.Seen.Regress(resp.Header)
			return &judgedError{rpc.Verdict{Kind: ErrRevisionRegressed}, ErrRevisionRegressed}
		}
	}
	// etcd's grpc-proxy answers for itself, without a cluster, and repeats the
	// revision that was asked for: it may not exist yet.
	if id := header.GetClusterId(); id != 0 {
		w.history.cluster = id
		w.history.saw(header.GetRevision())
	}
	return nil
}

// look makes a linearizable read of the first key, or of all with counting only.
// What it says of the history is not about one member alone.
func (w *watcher) look(ctx context.Context, all bool) (*pb.RangeResponse, error) {
	req := &pb.RangeRequest{Key: w.keys.Start, KeysOnly: true, Limit: 1}
	if all {
		req.RangeEnd, req.KeysOnly, req.CountOnly, req.Limit = w.keys.End, false, true, 0
	}
	return do(ctx, w.conn, request{op: "watch", key: w.key}, w.conn.rpc.Get, req)
}

// promise fixes the revision that a watch from now on begins at, where no server
// has registered it yet.
func (w *watcher) promise(ctx context.Context) {
	if resp, err := w.look(ctx, false); err == nil {
		w.anchor.CompareAndSwap(0, resp.Header.GetRevision()+1)
	}
}

// atFirstAnswer is the anchor of a watch whose client knows no revision of the cluster
// yet: it begins behind the first one that the client is told.
const atFirstAnswer = -1

// promiseSeen fixes the revision where the cluster can't be asked: whatever happens from
// here on is newer than what the client has seen.
func (w *watcher) promiseSeen() {
	from := int64(atFirstAnswer)
	if seen := w.conn.rpc.Seen.Mark().Revision; seen > 0 {
		from = seen + 1
	}
	w.anchor.CompareAndSwap(0, from)
}

// anchored returns the revision that Watch has promised, and that a history which ends
// before it contradicts; 0 for none.
func (w *watcher) anchored() int64 {
	from := w.anchor.Load()
	if from == atFirstAnswer {
		if from = w.conn.rpc.Seen.First(); from > 0 {
			from++
		}
	}
	w.history.saw(from - 1)
	return from
}

// missedNothing reports whether the watch can go on behind a compaction, and moves
// it there. It can when its only key exists and has not changed since: a deletion
// and what came before it would have left a newer revision.
func (w *watcher) missedNothing(ctx context.Context) bool {
	if len(w.keys.End) > 0 || w.next == 0 {
		return false
	}
	resp, err := w.look(ctx, false)
	if err != nil || len(resp.Kvs) != 1 || resp.Kvs[0].ModRevision >= w.next || w.history.contradicts(resp.Header) {
		return false
	}
	w.next = resp.Header.GetRevision() + 1
	return true
}

// refresh reports whether to try with another token than that of the last stream.
// A registration proves nothing: a proxy may accept a watch and end it for its
// token.
func (w *watcher) refresh() bool {
	if w.refreshes++; w.last == nil || !w.conn.rpc.Auth.CanRefresh() || w.refreshes > rpc.MaxRefreshes {
		return false
	}
	w.conn.rpc.Auth.Invalidate(w.last.giveUp())
	return true
}

// afterDenial looks behind the answer of a server before 3.5, which says
// "permission denied" about a token that it doesn't know (any more), too. It tells
// requests the truth.
func (w *watcher) afterDenial(ctx context.Context, a rpc.Verdict) rpc.Verdict {
	if !errors.Is(a.Kind, ErrPermissionDenied) || !w.conn.rpc.Auth.CanRefresh() {
		return a
	}
	_, err := w.look(ctx, true)
	switch {
	case errors.Is(err, ErrPermissionDenied):
		return a
	case err == nil:
		a.Remedy = rpc.RefreshToken
	default:
		a.Remedy = rpc.RetryRead
	}
	return a
}
