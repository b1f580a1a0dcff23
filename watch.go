package etcd

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// WatchChan delivers the responses of a watch. It is closed when the watch ends.
type WatchChan <-chan WatchResponse

// WatchResponse is a batch of events, or the end of a watch.
type WatchResponse struct {
	// Events are changes in the order in which they happened, all of a revision
	// together. A batch may hold several revisions and several changes of one
	// key.
	Events []*Event
	// Revision is the revision up to which the watch has seen everything.
	Revision int64
	// CompactRevision is set when Err is [ErrCompacted]: the oldest revision
	// that a new watch can start from.
	CompactRevision int64

	err error
}

// Err returns why the watch ended; nil for a batch of events. A response with an
// error is the last one. The reasons are [ErrCompacted], [ErrPermissionDenied],
// [ErrAuthFailed], [ErrClosed] and [ErrServer]; whatever heals by itself (a lost
// connection, a lost leader, an expired token) does not end a watch.
func (r WatchResponse) Err() error { return r.err }

// Watch delivers the changes of key, from now on or with [WithRevision] from a
// revision on, until ctx ends, the client is closed or the watch fails. Every
// change is delivered exactly once and in order, across reconnects too.
//
// It returns when the server has registered the watch, so that no change made
// afterwards is missed; if no server can be reached within
// [Config.RequestTimeout] it returns and goes on trying.
//
// The last response holds the error when the watch fails; when ctx ends, the
// channel is closed without one. A consumer that reads slowly slows down its own
// watch only: what it has not read waits on the server. The watch holds its
// resources until it ends: cancel ctx when it is no longer needed.
//
// A watch goes on delivering after the permission to read the key was taken
// away; the server checks it once.
func (c *Client) Watch(ctx context.Context, key string, opts ...WatchOption) WatchChan {
	return c.watch(ctx, key, false, opts)
}

// WatchPrefix is [Client.Watch] for all keys that begin with prefix. The empty
// prefix is refused with [ErrEmptyPrefix] unless [WithAllKeys] is given.
func (c *Client) WatchPrefix(ctx context.Context, prefix string, opts ...WatchOption) WatchChan {
	return c.watch(ctx, prefix, true, opts)
}

func (c *Client) watch(ctx context.Context, key string, prefix bool, opts []WatchOption) WatchChan {
	// One place is enough for the last response, so that a watch can end
	// without a reader.
	out := make(chan WatchResponse, 1)
	w, err := c.newWatcher(ctx, key, prefix, opts)
	if err == nil {
		registered := make(chan struct{})
		w.registered = func() { close(registered) }
		err = c.start(func() {
			defer close(out)
			err := w.run(ctx, func(r WatchResponse) bool {
				select {
				case out <- r:
					return true
				case <-ctx.Done():
				case <-c.closing:
				}
				return false
			})
			w.end(ctx, out, err)
		})
		if err == nil {
			w.await(ctx, registered)
			return out
		}
	}
	out <- WatchResponse{err: fail("watch", key, err)}
	close(out)
	return out
}

// await waits until the watch is registered, has failed, or RequestTimeout has
// passed.
func (w *watcher) await(ctx context.Context, registered <-chan struct{}) {
	timer := time.NewTimer(w.client.cfg.RequestTimeout)
	defer timer.Stop()
	select {
	case <-registered:
	case <-timer.C:
	case <-ctx.Done():
	case <-w.client.closing:
	}
}

// end delivers the last response.
func (w *watcher) end(ctx context.Context, out chan<- WatchResponse, err error) {
	if ctx.Err() != nil {
		return
	}
	last := WatchResponse{Revision: w.next - 1, CompactRevision: w.compacted, err: &Error{Op: "watch", Key: w.key, Sent: true, Err: err}}
	if errors.Is(err, ErrClosed) {
		// Close waits for this: a consumer that is gone must not hold it up.
		select {
		case out <- last:
		default:
		}
		return
	}
	select {
	case out <- last:
	case <-ctx.Done():
	case <-w.client.closing:
	}
}

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
	registered func() // called once, when the first stream is registered or run ends
}

func (c *Client) newWatcher(ctx context.Context, key string, prefix bool, opts []WatchOption) (*watcher, error) {
	if err := c.admit(ctx); err != nil {
		return nil, err
	}
	w := &watcher{client: c, key: key}
	for _, opt := range opts {
		opt.applyWatch(&w.opts)
	}
	if w.opts.revision < 0 {
		return nil, ErrInvalidArgument
	}
	if prefix && key == "" && !w.opts.allKeys {
		return nil, ErrEmptyPrefix
	}
	w.next = w.opts.revision
	var err error
	w.keys, err = c.keys(key, prefix)
	return w, err
}

// run delivers responses until ctx ends, deliver returns false, the client is
// closed or the watch fails, and returns why.
func (w *watcher) run(ctx context.Context, deliver func(WatchResponse) bool) error {
	defer w.nowRegistered()
	for failures := 1; ; failures++ {
		seen := w.next
		token := w.client.auth.current()
		err := w.stream(ctx, deliver)
		switch {
		case w.client.isClosed():
			return ErrClosed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errStopped):
			return err
		}
		a := interpretWatch(err)
		switch a.remedy {
		case refreshToken:
			if !w.client.auth.canRefresh() || failures > maxRefreshes {
				return err
			}
			w.client.auth.invalidate(token)
		case retryRead, retryAny, retryElsewhere:
			// Another stream, on another endpoint if there is one.
		default:
			return err
		}
		if w.next != seen {
			failures = 1
		}
		pause(ctx, w.client.closing, backoff(failures)) // an end is noticed above
	}
}

// errStopped says that the consumer of a watch wants no more.
var errStopped = errors.New("watch stopped by its consumer")

// watchEnded is the end of a watch in the server's words.
type watchEnded struct {
	answer answer
	err    error
}

func (e *watchEnded) Error() string { return e.err.Error() }
func (e *watchEnded) Unwrap() error { return e.err }

// interpretWatch is interpret for the error of a watch stream.
func interpretWatch(err error) answer {
	var ended *watchEnded
	if errors.As(err, &ended) {
		return ended.answer
	}
	return interpret(err)
}

// stream registers the watch on one stream and delivers what comes.
func (w *watcher) stream(ctx context.Context, deliver func(WatchResponse) bool) error {
	if err := w.client.auth.ensure(ctx); err != nil {
		return err
	}
	// With a leader required, a member that lost the quorum ends the stream
	// instead of staying silent.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	stream, err := w.client.rpc.watch.Watch(ctx)
	if err != nil {
		return err
	}
	create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: w.createRequest()}}
	_ = stream.Send(create) // a failed send shows its reason in the receive
	var batch []*mvccpb.Event
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		if resp.Canceled {
			return w.canceled(resp)
		}
		if resp.Created {
			w.nowRegistered()
			if w.next == 0 {
				w.next = resp.Header.GetRevision() + 1
			}
			continue
		}
		batch = append(batch, resp.Events...)
		if resp.Fragment {
			continue // a revision is delivered whole
		}
		out, ok := w.response(resp, batch)
		batch = nil
		if ok && !deliver(out) {
			return errStopped
		}
	}
}

func (w *watcher) createRequest() *pb.WatchCreateRequest {
	req := &pb.WatchCreateRequest{
		Key:            w.keys.start,
		RangeEnd:       w.keys.end,
		StartRevision:  w.next,
		PrevKv:         w.opts.prevKV,
		ProgressNotify: w.opts.progress,
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

// nowRegistered tells the caller of Watch once that it may go on.
func (w *watcher) nowRegistered() {
	if w.registered != nil {
		w.registered()
		w.registered = nil
	}
}

// response converts a batch and moves next behind it; false means that there is
// nothing to deliver. Events before next were delivered on an earlier stream.
func (w *watcher) response(resp *pb.WatchResponse, batch []*mvccpb.Event) (WatchResponse, bool) {
	out := WatchResponse{Revision: resp.Header.GetRevision()}
	if len(batch) == 0 {
		w.next = max(w.next, out.Revision+1)
		return out, w.opts.progress
	}
	first := w.next
	out.Events = make([]*Event, 0, len(batch))
	for _, ev := range batch {
		if ev.Kv.ModRevision < first {
			continue
		}
		out.Events = append(out.Events, w.client.event(ev))
		w.next = ev.Kv.ModRevision + 1
	}
	out.Revision = w.next - 1
	return out, len(out.Events) > 0
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
