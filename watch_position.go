package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// history is what a watch knows of the history that its position is in. A restore from a
// backup brings back an older history, in which the position may not exist for long. A
// watch there would be silent until it does, and then miss the beginning.
type history struct {
	cluster uint64
	known   int64 // the newest revision that has been seen
}

func (h *history) saw(revision int64) { h.known = max(h.known, revision) }

// contradicts reports whether a header can't be from the same history, unless its sender
// lags behind.
func (h *history) contradicts(header *pb.ResponseHeader) bool {
	id := header.GetClusterId()
	return header.GetRevision() < h.known || id != 0 && h.cluster != 0 && id != h.cluster
}

// checkHistory takes the header of a new registration into account. It fails with
// ErrRevisionRegressed if the history that the watch is in is gone. A linearizable read
// confirms that, since the member may only lag behind.
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
	// etcd's grpc-proxy answers by itself, without a cluster, and repeats the revision
	// that was asked for, which may not exist yet.
	if id := header.GetClusterId(); id != 0 {
		w.history.cluster = id
		w.history.saw(header.GetRevision())
	}
	return nil
}

// look makes a linearizable read of the first key, or counts all keys. What it shows of
// the history is true for the cluster, not for one member alone.
func (w *watcher) look(ctx context.Context, all bool) (*pb.RangeResponse, error) {
	req := &pb.RangeRequest{Key: w.keys.Start, KeysOnly: true, Limit: 1}
	if all {
		req.RangeEnd, req.KeysOnly, req.CountOnly, req.Limit = w.keys.End, false, true, 0
	}
	return do(ctx, w.conn, request{op: "watch", key: w.key}, w.conn.rpc.Get, req)
}

// promise fixes the revision at which a watch from now on begins, if no server has
// registered it yet.
func (w *watcher) promise(ctx context.Context) {
	if resp, err := w.look(ctx, false); err == nil {
		w.anchor.CompareAndSwap(0, resp.Header.GetRevision()+1)
	}
}

// atFirstAnswer is the anchor of a watch whose client knows no revision of the cluster
// yet: it begins after the first one that the client learns.
const atFirstAnswer = -1

// promiseSeen fixes the revision if the cluster can't be asked: whatever happens from now
// on is newer than what the client has seen.
func (w *watcher) promiseSeen() {
	from := int64(atFirstAnswer)
	if seen := w.conn.rpc.Seen.Mark().Revision; seen > 0 {
		from = seen + 1
	}
	w.anchor.CompareAndSwap(0, from)
}

// anchored returns the revision that Watch has promised, or 0. A history that ends before
// it contradicts it.
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

// missedNothing reports whether the watch can go on behind a compaction, and moves it
// there. It can if its only key exists and has not changed since: a deletion, followed by
// another put, would have left a newer revision.
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

// refresh reports whether to try with a token other than that of the last stream. A
// registration proves nothing: a proxy may accept a watch and end it because of its
// token.
func (w *watcher) refresh() bool {
	if w.refreshes++; w.last == nil || !w.conn.rpc.Auth.CanRefresh() || w.refreshes > rpc.MaxRefreshes {
		return false
	}
	w.conn.rpc.Auth.Invalidate(w.last.giveUp())
	return true
}

// afterDenial checks the answer of a server before 3.5, which says "permission denied"
// also about a token that it doesn't know (any more). To requests it tells the truth.
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
