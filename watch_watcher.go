package etcd

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// watcher is one watch. One goroutine at a time runs it, and none while it rests. The
// goroutine decodes and delivers what comes for it on a stream, and looks for another
// place when it loses its own.
type watcher struct {
	conn *conn
	hub  *watchHub
	key  string
	keys keys.Range
	opts watchOptions
	told *watchStatus // nil if nobody wants to know
	list lister       // nil if the watch ends when its position is gone

	// next is the first revision that has not been delivered; 0 means now.
	next       int64
	compacted  int64
	noPrevious int64        // values before this revision were compacted
	patience   *patience    // with unavailable keys
	registered func()       // called once, when the watch is registered or run ends
	anchor     atomic.Int64 // what Watch has promised that next becomes, or atFirstAnswer
	history    history

	deliver func(WatchResponse) bool
	wake    chan struct{} // holds one value when something has come
	place   *registration // nil while it has none
	resting atomic.Bool   // no goroutine runs it
	goOn    func()        // runs it; nil if the caller does, and it never rests
	forget  func() bool   // drops the link to its context

	own          bool          // it wants a stream of its own
	avoid        *watchStream  // one that gave no answer
	answerWithin time.Duration // before another try elsewhere
	since        time.Time     // when it was registered; zero while it is not
	busy         time.Time     // when events came last, on a stream of its own
	proved       bool          // something came since
	holding      bool          // it has taken events off its place that it has not delivered
	last         *watchStream  // the one that it lost
	size         eventSizes

	// Counts of futile tries; reset by anything that proves that the watch works.
	failures  int
	refreshes int
	elsewhere int
}

var (
	// errStopped says that the consumer of a watch wants no more.
	errStopped = errors.New("watch stopped by its consumer")
	// errCalm ends a watch on a stream of its own that it no longer needs.
	errCalm = errors.New("watch is no longer behind")
	// errAnchored ends a registration that begins later than the watch has promised.
	errAnchored = errors.New("watch was registered too late")
	// errSilent ends a registration that was not answered.
	errSilent = errors.New("no answer to a watch")
)

// Times of a watch.
const (
	// calmAfter is how long a watch on a stream of its own must be without events.
	calmAfter = 5 * time.Second
	// livedAfter is how long a registration must last to prove that the next one can be
	// made at once.
	livedAfter = 10 * time.Second
)

// position implements [watchConsumer].
func (w *watcher) position() (start int64, fragment bool) { return w.next, w.fragments() }

// wantsProgress implements [watchConsumer].
func (w *watcher) wantsProgress() bool { return w.opts.progress }

// buffer implements [watchConsumer].
func (w *watcher) buffer() int { return w.opts.buffer }

// request implements [watchConsumer].
func (w *watcher) request() *pb.WatchCreateRequest {
	req := &pb.WatchCreateRequest{
		Key:      w.keys.Start,
		RangeEnd: w.keys.End,
		PrevKv:   w.opts.prevKV,
		// Even if the consumer doesn't ask for it: the position moves on with every
		// server, without a further request.
		ProgressNotify: true,
	}
	if w.opts.noPut {
		req.Filters = append(req.Filters, pb.WatchCreateRequest_NOPUT)
	}
	if w.opts.noDelete {
		req.Filters = append(req.Filters, pb.WatchCreateRequest_NODELETE)
	}
	return req
}

// run delivers responses until ctx ends, deliver returns false, the client is closed or
// the watch fails, and returns the reason.
func (w *watcher) run(ctx context.Context, deliver func(WatchResponse) bool) error {
	w.prepare(deliver)
	return w.proceed(ctx)
}

func (w *watcher) prepare(deliver func(WatchResponse) bool) {
	w.deliver, w.wake, w.answerWithin = deliver, make(chan struct{}, 1), w.conn.cfg.RequestTimeout/8
}

// proceed continues the watch from where it is. It returns why the watch has ended, or
// errResting.
func (w *watcher) proceed(ctx context.Context) error {
	for {
		err := w.follow(ctx)
		switch {
		case errors.Is(err, errResting):
			return err
		case w.conn.rpc.IsClosed():
			return ErrClosed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errStopped):
			return err
		case w.changesPlace(ctx, err):
			continue
		}
		if err := w.judge(ctx, err); err != nil {
			return err
		}
		rpc.Pause(ctx, w.conn.rpc.Closing(), rpc.Backoff(w.failures)) // an end is noticed above
	}
}

// follow registers the watch on a stream, unless it has a place already, and delivers its
// responses. It returns why that ended.
func (w *watcher) follow(ctx context.Context) error {
	if w.place == nil {
		if err := w.register(); err != nil {
			return err
		}
	}
	r := w.place
	err := w.read(ctx, r)
	if errors.Is(err, errResting) {
		return err
	}
	w.place = nil
	upTo := r.leave()
	if !w.since.IsZero() && !w.holding && upTo >= w.next { // otherwise it began later than it should
		w.next, w.proved = upTo+1, true
		w.history.saw(upTo)
	}
	if w.proved || !w.since.IsZero() && time.Since(w.since) >= livedAfter {
		w.failures, w.refreshes, w.elsewhere = 0, 0, 0
	}
	w.last = r.stream
	return err
}

// register gives the watch a place.
func (w *watcher) register() (err error) {
	if w.next == 0 {
		w.next = w.anchored()
	}
	w.since, w.proved = time.Time{}, false
	w.place, err = w.hub.join(w, w.own, w.avoid)
	return err
}

// read delivers what comes for a registration until it ends or the watch rests.
func (w *watcher) read(ctx context.Context, r *registration) error {
	var batch []*mvccpb.Event
	for {
		w.holding = len(batch) > 0
		resp, err := r.next()
		switch {
		case err != nil:
			return err
		case resp == nil:
			if err := w.wait(ctx, r, len(batch) == 0); err != nil {
				return err
			}
			continue
		case resp.Canceled:
			return w.canceled(resp)
		case resp.Created:
			if err := w.created(ctx, r, resp); err != nil {
				return err
			}
			continue
		}
		w.holding = true
		batch = append(batch, resp.Events...)
		n := wholeRevisions(batch, resp.Fragment)
		if err := w.addPrevious(ctx, batch[:n]); err != nil {
			return err
		}
		if !w.pass(ctx, resp, batch[:n]) {
			return errStopped
		}
		batch = append([]*mvccpb.Event(nil), batch[n:]...) // lets go of the others
	}
}

// wait returns nil when there is something to read, and errResting if the watch rests
// until then, which it may while its goroutine holds nothing it still needs.
func (w *watcher) wait(ctx context.Context, r *registration, mayRest bool) error {
	var late <-chan time.Time
	if d := w.timeout(r); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		late = timer.C
	} else if mayRest && w.goOn != nil && ctx.Err() == nil {
		if w.rest(ctx, r) {
			return errResting
		}
		return nil
	}
	select {
	case <-w.wake:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.conn.rpc.Closing():
		return ErrClosed
	case <-late:
		return w.overdue(ctx, r)
	}
}

// timeout returns how long to wait for the next response; 0 means forever.
func (w *watcher) timeout(r *registration) time.Duration {
	switch {
	case w.since.IsZero():
		return w.answerWithin
	case r.stream.own:
		return max(time.Until(w.busy.Add(calmAfter)), 1)
	}
	return 0
}

// overdue is called when nothing has come within the timeout. A registration without an
// answer is tried elsewhere, with more and more patience: it takes some seconds until a
// connection that went silent is known as such.
func (w *watcher) overdue(ctx context.Context, r *registration) error {
	if !w.since.IsZero() {
		return errCalm
	}
	limit := w.conn.cfg.RequestTimeout
	if w.answerWithin *= 2; w.answerWithin >= limit {
		w.answerWithin = limit
		if !w.interrupted(ctx, errs.WithDetail(ErrUnavailable, w.conn.rpc.DialError())) {
			return errStopped
		}
	}
	if w.conn.rpc.HasSeveralEndpoints() && r.unanswered() {
		w.avoid = r.stream
		rpc.Avoid(w.avoid.ctx)
		return errSilent
	}
	return nil
}

// changesPlace reports whether err only means that the watch continues elsewhere.
func (w *watcher) changesPlace(ctx context.Context, err error) bool {
	switch {
	case errors.Is(err, errLagging):
		w.own = true
	case errors.Is(err, errCalm):
		w.own = false
	case errors.Is(err, errWatchTooLarge):
		w.tooLarge(ctx)
	case errors.Is(err, errAnchored), errors.Is(err, errSilent), errors.Is(err, errMoved), errors.Is(err, errNoWatches):
	default:
		return false
	}
	w.conn.cfg.Logger.Debug("etcd: watch changes its stream", slog.String("key", w.key), slog.Any("reason", err))
	return true
}

// judge returns the error that ends the watch, or nil if it should be tried again.
func (w *watcher) judge(ctx context.Context, err error) error {
	w.failures++
	a, err := watchFailure(err)
	a = w.afterDenial(ctx, a)
	switch a.Remedy {
	case rpc.RefreshToken:
		if !w.refresh() {
			return err
		}
	case rpc.RetryRead, rpc.RetryAny:
		// Try another stream, on another endpoint if there is one.
	case rpc.RetryElsewhere:
		if w.elsewhere++; w.elsewhere >= a.Rounds()*w.conn.rpc.EndpointCount() {
			return err
		}
	default:
		switch {
		case errors.Is(a.Kind, ErrCompacted) && w.missedNothing(ctx):
			return nil
		case w.canResync(a.Kind):
			return w.resync(ctx, a.Kind)
		}
		return err
	}
	if errors.Is(a.Kind, ErrUnavailable) {
		err = errs.WithDetail(err, w.conn.rpc.DialError())
	}
	if !w.interrupted(ctx, err) {
		return errStopped
	}
	return nil
}

// created records that the server has registered the watch.
func (w *watcher) created(ctx context.Context, r *registration, resp *pb.WatchResponse) error {
	head := resp.Header.GetRevision()
	if r.start == 0 {
		w.next = head + 1
		if !w.anchor.CompareAndSwap(0, w.next) {
			w.next = cmp.Or(w.anchored(), w.next)
		}
		if w.next <= head {
			return errAnchored
		}
	}
	if err := w.checkHistory(ctx, resp.Header); err != nil {
		return err
	}
	w.since, w.avoid, w.last = time.Now(), nil, nil
	w.busy = w.since
	w.answerWithin = w.conn.cfg.RequestTimeout / 8
	w.nowRegistered()
	w.hub.noteRecovery()
	if !w.isRegistered(ctx) {
		return errStopped
	}
	return nil
}

// nowRegistered tells the caller of Watch, once, that it may go on.
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
		return &judgedError{rpc.Verdict{Kind: ErrCompacted}, ErrCompacted}
	}
	a, err := rpc.WatchVerdict(resp.CancelReason)
	return &judgedError{a, err}
}

// pass delivers events, or the news that there are none, and moves next behind them. It
// reports whether the consumer wants more.
func (w *watcher) pass(ctx context.Context, resp *pb.WatchResponse, events []*mvccpb.Event) bool {
	w.proved = true
	if len(resp.Events) == 0 {
		w.next = max(w.next, resp.Header.GetRevision()+1)
		w.history.saw(w.next - 1)
		return !w.opts.progress || w.deliver(WatchResponse{Revision: w.next - 1})
	}
	if w.own {
		w.busy = time.Now()
	}
	for len(events) > 0 {
		n := portion(events)
		w.size.add(events[:n])
		out := w.decode(ctx, events[:n])
		if len(out.Events) > 0 {
			if !w.deliver(out) {
				return false
			}
			w.next = out.Revision + 1
			w.history.saw(out.Revision)
		}
		events = events[n:]
	}
	return true
}

// decode returns those events that were not delivered on an earlier stream.
func (w *watcher) decode(ctx context.Context, events []*mvccpb.Event) WatchResponse {
	d := w.hub.codec.decoding(ctx)
	d.patience = w.patience
	defer d.end()
	d.prepareEvents(events)
	out := WatchResponse{Events: make([]*Event, 0, len(events))}
	for _, ev := range events {
		if ev.Kv.ModRevision >= w.next {
			out.Events = append(out.Events, w.event(&d, ev))
			out.Revision = ev.Kv.ModRevision
		}
	}
	return out
}

func (w *watcher) event(d *decoding, ev *mvccpb.Event) *Event {
	if !w.opts.raw {
		return d.event(ev)
	}
	kv, _ := d.keyValue(ev.Kv, true) // nothing is decoded
	out := &Event{Kv: &kv, raw: ev.Kv}
	if ev.Type == mvccpb.Event_DELETE {
		out.Type = EventDelete
	}
	return out
}

// await waits until the watch is registered or has failed, which ends ctx, or
// RequestTimeout has passed. At half of that time it makes a promise in case it passes,
// and a weaker one at the end if that failed.
func (w *watcher) await(ctx context.Context) {
	limit := w.conn.cfg.RequestTimeout
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if w.opts.revision == 0 && rpc.Pause(ctx, w.conn.rpc.Closing(), limit/2) {
		w.promise(ctx)
	}
	select {
	case <-ctx.Done():
	case <-w.conn.rpc.Closing():
	}
	if w.opts.revision == 0 {
		w.promiseSeen()
	}
}

// deliverTo returns a function that sends to out, and reports whether the watch is to go
// on.
func (w *watcher) deliverTo(ctx context.Context, out chan<- WatchResponse) func(WatchResponse) bool {
	return func(r WatchResponse) bool {
		select {
		case out <- r:
			return true
		case <-ctx.Done():
		case <-w.conn.rpc.Closing():
		}
		return false
	}
}

// end delivers the last response.
func (w *watcher) end(ctx context.Context, out chan WatchResponse, err error) {
	err = answered("watch", w.key, err)
	w.ended(ctx, err)
	if ctx.Err() != nil {
		return
	}
	last := WatchResponse{
		Revision:        max(w.next-1, 0),
		CompactRevision: w.compacted,
		err:             err,
	}
	select {
	case out <- last:
	case <-ctx.Done():
	case <-w.conn.rpc.Closing():
		// Close waits for this: a consumer that is gone must not hold it up. After this
		// the slot is free, since nobody else sends.
		select {
		case unread := <-out:
			last.Revision = unread.before()
		default:
		}
		out <- last
	}
}
