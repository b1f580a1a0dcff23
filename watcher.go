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
)

// watcher is one watch. One goroutine at a time runs it, and none while it rests: it
// decodes and delivers what comes for it on a stream, and looks for another place
// when it loses the one it has.
type watcher struct {
	client *Client
	key    string
	keys   keyRange
	opts   watchOptions
	told   *watchStatus // nil where nobody wants to know

	// next is the first revision that has not been delivered; 0 means now.
	next       int64
	compacted  int64
	patience   *patience    // with keys that can't be had
	registered func()       // called once, when the watch is registered or run ends
	anchor     atomic.Int64 // what next becomes where Watch has promised it, or atFirstAnswer
	history    history

	deliver func(WatchResponse) bool
	wake    chan struct{} // holds one value when something has come
	place   *registration // nil while it has none
	resting atomic.Bool   // no goroutine runs it
	goOn    func()        // runs it; nil where the caller does, and it never rests
	forget  func() bool   // the end of its context

	own          bool          // it wants a stream of its own
	avoid        *watchStream  // one that gave no answer
	answerWithin time.Duration // before it is tried elsewhere
	since        time.Time     // when it was registered; zero while it is not
	busy         time.Time     // when events came last, on a stream of its own
	proved       bool          // something came since
	last         *watchStream  // the one that it lost
	size         eventSizes

	// What is tried again and again in vain; reset by what proves that it works.
	failures  int
	refreshes int
	elsewhere int
}

var (
	// errStopped says that the consumer of a watch wants no more.
	errStopped = errors.New("watch stopped by its consumer")
	// errLagging ends a registration whose consumer is too far behind.
	errLagging = errors.New("watch is behind")
	// errCalm ends one on a stream of its own that it doesn't need any more.
	errCalm = errors.New("watch is no longer behind")
	// errAnchored ends one that began later than the watch has promised.
	errAnchored = errors.New("watch was registered too late")
	// errSilent ends one that was not answered.
	errSilent = errors.New("no answer to a watch")
	// errWatchTooLarge ends one that may have got what was too large.
	errWatchTooLarge = errors.New("response of a watch is too large")
)

// Times of a watch.
const (
	// calmAfter is how long a watch on a stream of its own must be without events.
	calmAfter = 5 * time.Second
	// livedAfter is how long a registration must last to prove that the next one
	// can be made at once.
	livedAfter = 10 * time.Second
)

// run delivers responses until ctx ends, deliver returns false, the client is
// closed or the watch fails, and returns why.
func (w *watcher) run(ctx context.Context, deliver func(WatchResponse) bool) error {
	w.prepare(deliver)
	return w.proceed(ctx)
}

func (w *watcher) prepare(deliver func(WatchResponse) bool) {
	w.deliver, w.wake, w.answerWithin = deliver, make(chan struct{}, 1), w.client.cfg.RequestTimeout/8
}

// proceed goes on where the watch is. It returns why the watch has ended, or
// errResting.
func (w *watcher) proceed(ctx context.Context) error {
	for {
		err := w.follow(ctx)
		switch {
		case errors.Is(err, errResting):
			return err
		case w.client.isClosed():
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
		pause(ctx, w.client.closing, backoff(w.failures)) // an end is noticed above
	}
}

// follow registers the watch on a stream, unless it has a place already, and
// delivers what comes. It returns why it ended.
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
	if !w.since.IsZero() && upTo >= w.next { // else it began later than it should
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
	w.place, err = w.client.watches.join(w, w.own, w.avoid)
	return err
}

// read delivers what comes for a registration until it ends or the watch rests.
func (w *watcher) read(ctx context.Context, r *registration) error {
	var batch []*mvccpb.Event
	for {
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
		batch = append(batch, resp.Events...)
		n := wholeRevisions(batch, resp.Fragment)
		if !w.pass(ctx, resp, batch[:n]) {
			return errStopped
		}
		batch = append([]*mvccpb.Event(nil), batch[n:]...) // lets go of the others
	}
}

// wait returns nil when something has come, and errResting when the watch rests
// until then, which it may while the goroutine has nothing that it needs.
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
	case <-w.client.closing:
		return ErrClosed
	case <-late:
		return w.overdue(ctx, r)
	}
}

// timeout returns how long to wait for the next response; 0 means for ever.
func (w *watcher) timeout(r *registration) time.Duration {
	switch {
	case w.since.IsZero():
		return w.answerWithin
	case r.stream.own:
		return max(time.Until(w.busy.Add(calmAfter)), 1)
	}
	return 0
}

// overdue is called when nothing has come within the timeout. A registration that
// gets no answer is tried elsewhere, with more and more patience: a connection that
// went silent is known as such only after some seconds.
func (w *watcher) overdue(ctx context.Context, r *registration) error {
	if !w.since.IsZero() {
		return errCalm
	}
	limit := w.client.cfg.RequestTimeout
	if w.answerWithin *= 2; w.answerWithin >= limit {
		w.answerWithin = limit
		if !w.interrupted(ctx, withDetail(ErrUnavailable, w.client.dials.err())) {
			return errStopped
		}
	}
	if w.client.severalEndpoints() && r.unanswered() {
		w.avoid = r.stream
		avoid(w.avoid.ctx)
		return errSilent
	}
	return nil
}

// changesPlace reports whether err only means that the watch goes on elsewhere.
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
	w.client.cfg.Logger.Debug("etcd: watch changes its stream", slog.String("key", w.key), slog.Any("reason", err))
	return true
}

// judge returns the error that ends the watch, or nil when it should be tried
// again.
func (w *watcher) judge(ctx context.Context, err error) error {
	w.failures++
	a, err := watchFailure(err)
	a = w.afterDenial(ctx, a)
	switch a.remedy {
	case refreshToken:
		if !w.refresh() {
			return err
		}
	case retryRead, retryAny:
		// Another stream, on another endpoint if there is one.
	case retryElsewhere:
		if w.elsewhere++; w.elsewhere >= a.rounds()*w.client.endpointCount() {
			return err
		}
	default:
		if !errors.Is(a.kind, ErrCompacted) || !w.missedNothing(ctx) {
			return err
		}
		return nil
	}
	if errors.Is(a.kind, ErrUnavailable) {
		err = withDetail(err, w.client.dials.err())
	}
	if !w.interrupted(ctx, err) {
		return errStopped
	}
	return nil
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

// created takes in that the server has registered the watch.
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
	w.answerWithin = w.client.cfg.RequestTimeout / 8
	w.nowRegistered()
	w.client.watches.works()
	if !w.isRegistered(ctx) {
		return errStopped
	}
	return nil
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
	d := w.client.codec.decoding(ctx)
	d.patience = w.patience
	defer d.end()
	d.prepareEvents(events)
	out := WatchResponse{Events: make([]*Event, 0, len(events))}
	for _, ev := range events {
		if ev.Kv.ModRevision >= w.next {
			out.Events = append(out.Events, d.event(w.client, ev))
			out.Revision = ev.Kv.ModRevision
		}
	}
	return out
}

// portionBytes is about how much a watch decodes and delivers at once. A revision
// is never divided.
const portionBytes = 1 << 20

// portion returns how many of the first events are delivered together.
func portion(events []*mvccpb.Event) int {
	bytes := 0
	for i, ev := range events {
		if bytes >= portionBytes && ev.Kv.ModRevision != events[i-1].Kv.ModRevision {
			return i
		}
		bytes += eventSize(ev)
	}
	return len(events)
}
