package etcd

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// watcher is one watch. It has a stream of its own, so that its pace is its own:
// a response that the consumer has not taken keeps the stream from being read,
// and the server from sending more than the stream's window. One goroutine runs
// it.
type watcher struct {
	client *Client
	key    string
	keys   keyRange
	opts   watchOptions
	// next is the first revision that has not been delivered; 0 means now.
	next       int64
	compacted  int64
	patience   *patience // with keys that can't be had
	registered func()    // called once, when the first stream is registered or run ends
}

// errStopped says that the consumer of a watch wants no more.
var errStopped = errors.New("watch stopped by its consumer")

// run delivers responses until ctx ends, deliver returns false, the client is
// closed or the watch fails, and returns why.
func (w *watcher) run(ctx context.Context, deliver func(WatchResponse) bool) error {
	defer w.nowRegistered()
	for failures, refreshes := 1, 0; ; failures++ {
		token := w.client.auth.current()
		registered, err := w.stream(ctx, deliver)
		switch {
		case w.client.isClosed():
			return ErrClosed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errStopped):
			return err
		}
		if registered {
			failures, refreshes = 1, 0 // connection and token were good
		}
		a, err := watchFailure(err)
		if errors.Is(a.kind, ErrPermissionDenied) && token != nil && w.client.auth.canRefresh() {
			// A server before 3.5 answers so about a token that it doesn't know
			// (any more), too. One that was got for this stream is beyond doubt.
			a.remedy = refreshToken
		}
		switch a.remedy {
		case refreshToken:
			if refreshes++; !w.client.auth.canRefresh() || refreshes > maxRefreshes {
				return err
			}
			w.client.auth.invalidate(token)
		case retryRead, retryAny, retryElsewhere:
			// Another stream, on another endpoint if there is one.
		default:
			return err
		}
		pause(ctx, w.client.closing, backoff(failures)) // an end is noticed above
	}
}

// watchEnded is the end of a watch in the server's words.
type watchEnded struct {
	answer answer
	err    error
}

func (e *watchEnded) Error() string { return e.err.Error() }

// watchFailure returns what the error of a stream means, and says it in the words
// of this package.
func watchFailure(err error) (answer, error) {
	var ended *watchEnded
	if errors.As(err, &ended) {
		return ended.answer, ended.err
	}
	a := interpret(err)
	return a, describe(a.kind, err)
}

// stream registers the watch on one stream and delivers what comes. It reports
// whether the server has registered it, and why it ended.
func (w *watcher) stream(ctx context.Context, deliver func(WatchResponse) bool) (registered bool, err error) {
	if err := w.client.auth.ensure(ctx); err != nil {
		return false, err
	}
	// With a leader required, a member that lost the quorum ends the stream
	// instead of staying silent.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	stream, err := w.client.rpc.watch.Watch(ctx)
	if err != nil {
		return false, err
	}
	create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: w.createRequest()}}
	_ = stream.Send(create) // a failed send shows its reason in the receive
	var batch []*mvccpb.Event
	for {
		resp, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			// No server says so by itself; a proxy that is shut down does.
			return registered, status.Error(codes.Unavailable, "watch stream ended")
		case err != nil:
			return registered, err
		case resp.Canceled:
			return registered, w.canceled(resp)
		case resp.Created:
			registered = true
			w.created(resp)
			continue
		}
		if err := checkEvents(resp); err != nil {
			return registered, err
		}
		batch = append(batch, resp.Events...)
		n := wholeRevisions(batch, resp.Fragment)
		if !w.pass(ctx, resp, batch[:n], deliver) {
			return registered, errStopped
		}
		batch = append([]*mvccpb.Event(nil), batch[n:]...) // lets go of the others
	}
}

func (w *watcher) createRequest() *pb.WatchCreateRequest {
	req := &pb.WatchCreateRequest{
		Key:           w.keys.start,
		RangeEnd:      w.keys.end,
		StartRevision: w.next,
		PrevKv:        w.opts.prevKV,
		// Also where the consumer doesn't want to know: next moves on, and a
		// watch that had no event for long can be resumed after a compaction.
		ProgressNotify: true,
		Fragment:       true,
	}
	if w.opts.noPut {
		req.Filters = append(req.Filters, pb.WatchCreateRequest_NOPUT)
	}
	if w.opts.noDelete {
		req.Filters = append(req.Filters, pb.WatchCreateRequest_NODELETE)
	}
	return req
}

// created notes that the server has registered the watch.
func (w *watcher) created(resp *pb.WatchResponse) {
	if w.next == 0 {
		w.next = resp.Header.GetRevision() + 1
	}
	w.nowRegistered()
}

// nowRegistered tells the caller of Watch once that it may go on.
func (w *watcher) nowRegistered() {
	if w.registered != nil {
		w.registered()
		w.registered = nil
	}
}

// canceled returns the error of a watch that the server ended.
func (w *watcher) canceled(resp *pb.WatchResponse) error {
	if resp.CompactRevision > 0 {
		w.compacted = resp.CompactRevision
		return &watchEnded{answer{kind: ErrCompacted}, ErrCompacted}
	}
	a, err := watchAnswer(resp.CancelReason)
	return &watchEnded{a, err}
}

// wholeRevisions returns how many of the first events of batch belong to
// revisions that are complete. The last one is not while fragments of the
// response are to come. Those before it must not wait: a watch that catches up
// gets up to a thousand revisions in one response.
func wholeRevisions(batch []*mvccpb.Event, more bool) int {
	n := len(batch)
	for more && n > 0 && batch[n-1].Kv.ModRevision == batch[len(batch)-1].Kv.ModRevision {
		n--
	}
	return n
}

// pass delivers events, or the news that there are none, and moves next behind
// them. It reports whether the consumer wants more.
func (w *watcher) pass(ctx context.Context, resp *pb.WatchResponse, batch []*mvccpb.Event, deliver func(WatchResponse) bool) bool {
	out := WatchResponse{Revision: w.next - 1}
	progress := len(resp.Events) == 0
	if progress {
		out.Revision = max(out.Revision, resp.Header.GetRevision())
	}
	d := w.client.codec.decoding(ctx)
	d.patience = w.patience
	defer d.end()
	d.prepareEvents(batch)
	for _, ev := range batch {
		if ev.Kv.ModRevision >= w.next { // else it was delivered on an earlier stream
			out.Events = append(out.Events, d.event(w.client, ev))
			out.Revision = ev.Kv.ModRevision
		}
	}
	if (len(out.Events) > 0 || progress && w.opts.progress) && !deliver(out) {
		return false
	}
	w.next = out.Revision + 1
	return true
}
