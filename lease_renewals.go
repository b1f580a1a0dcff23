package etcd

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// renewals renews all leases of a client on one stream. A stream for each renewal would
// cost both ends several times as much, and each would take a place among the streams
// that a connection may have.
//
// Two goroutines work for it while there is anything to renew: run opens streams and
// sends on them, renewalStream.receive reads the answers. Both end with the client, or
// when nothing has been asked for during renewalLinger. Leases that could not be renewed
// in time are ended by timers of their sessions (session.go).
type renewals struct {
	conn *conn
	// open opens a stream. Answers are matched to requests by the ID of the lease.
	open func(ctx context.Context) (renewalCalls, error)
	// route remembers where the streams went, so that the next one goes elsewhere.
	route *rpc.Route
	// wake tells run that there may be more to do than it knows.
	wake chan struct{}

	mu      sync.Mutex // guards what follows; never held over a request
	due     renewalQueue
	asked   []*inFlight // by once, not yet sent
	failure error       // why the last stream ended; nil after an answer
	running bool
}

// renewalCalls is the part of a renewal stream that is used. The stream is never
// half-closed: etcd's grpc-proxy would take that for its end, and drop the answers.
type renewalCalls interface {
	Send(*pb.LeaseKeepAliveRequest) error
	Recv() (*pb.LeaseKeepAliveResponse, error)
	Context() context.Context
}

const (
	// renewalLinger is how long an unused stream is kept for the next renewal.
	renewalLinger = 10 * time.Second
	// renewalsPerTTL is how often a lease is renewed within its time to live. The promise
	// of WithLockTTL depends on it.
	renewalsPerTTL = 8
	// silencesPerTTL bounds how long a stream may stay silent: the shortest time to live
	// of its leases, divided by this. The rest of that time is for another stream.
	silencesPerTTL = 3
	// minSilence is the least silence after which an abandoned single renewal condemns
	// its stream.
	minSilence = 500 * time.Millisecond
)

func newRenewals(c *conn) *renewals {
	r := &renewals{conn: c, route: &rpc.Route{}, wake: make(chan struct{}, 1)}
	r.open = func(ctx context.Context) (renewalCalls, error) { return c.rpc.Renew(ctx) }
	return r
}

// keep renews the lease of s until s ends.
func (r *renewals) keep(s *session) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.place = unplaced; s.ctx.Err() != nil {
		return nil // its time is already over
	}
	if err := r.start(); err != nil {
		return err
	}
	s.next = s.began.Add(s.interval())
	heap.Push(&r.due, s)
	r.nudge()
	return nil
}

// drop stops renewing the lease of s.
func (r *renewals) drop(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.place != unplaced {
		heap.Remove(&r.due, s.place)
	}
}

// start begins run, if it isn't under way. r.mu must be held.
func (r *renewals) start() error {
	if r.running {
		return nil
	}
	err := r.conn.rpc.Start(r.run)
	r.running = err == nil
	return err
}

// nudge makes run look again.
func (r *renewals) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// renewed is the result of a single renewal.
type renewed struct {
	resp *pb.LeaseKeepAliveResponse
	err  error
}

// once renews a lease once, in the shape of a unary RPC.
func (r *renewals) once(ctx context.Context, in *pb.LeaseKeepAliveRequest, opts ...grpc.CallOption) (*pb.LeaseKeepAliveResponse, error) {
	f := &inFlight{id: in.ID, answer: make(chan renewed, 1)}
	r.mu.Lock()
	err := r.start()
	if err == nil {
		r.asked = append(r.asked, f)
		r.nudge()
	}
	r.mu.Unlock()
	if err != nil {
		return nil, errClosedStatus
	}
	select {
	case got := <-f.answer:
		r.noteSent(f, opts)
		return got.resp, got.err
	case <-ctx.Done():
		r.giveUp(f)
		r.noteSent(f, opts)
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// giveUp forgets a renewal that nobody waits for any more. If its stream has been silent
// all that time, another one may do better.
func (r *renewals) giveUp(f *inFlight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.forgotten = true
	if s := f.stream; s != nil && time.Since(f.sent) >= minSilence && s.heard.Before(f.sent) {
		s.cancel(errSilentStream)
	}
}

// errSilentStream is the cause for cancelling a stream that was given up.
var errSilentStream = errors.New("no answer on the stream of renewals")

// run keeps a stream open while there is anything to renew.
func (r *renewals) run() {
	patience := 1
	for failures := 1; r.wait(); failures++ {
		s := r.newStream(patience)
		err := s.run()
		switch {
		case s.answers > 0:
			failures, patience = 1, 1
		default: // an answer may take longer than this stream was given
			patience = min(2*patience, renewalsPerTTL)
		}
		if s.judge(err) {
			rpc.Pause(context.Background(), r.conn.rpc.Closing(), min(rpc.Backoff(failures), s.silence))
		}
	}
}

// wait waits until a renewal is due. It returns false, and then the goroutine must end,
// if the client is closed or no renewal has been asked for in a while.
func (r *renewals) wait() bool {
	began := time.Now()
	for {
		if r.conn.rpc.IsClosed() {
			r.end()
			return false
		}
		r.mu.Lock()
		wait, idle := r.untilDue(time.Now())
		if idle && time.Since(began) >= renewalLinger {
			r.running = false
			r.mu.Unlock()
			return false
		}
		r.mu.Unlock()
		if wait <= 0 {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.wake:
			timer.Stop()
		case <-r.conn.rpc.Closing():
			timer.Stop()
		}
	}
}

// untilDue returns how long there is nothing to do, and whether that lasts until somebody
// asks for a renewal. r.mu must be held.
func (r *renewals) untilDue(now time.Time) (wait time.Duration, idle bool) {
	switch {
	case len(r.asked) > 0:
		return 0, false
	case len(r.due) > 0:
		return r.due[0].next.Sub(now), false
	default:
		return renewalLinger, true
	}
}

// end ends everything that was asked for, after the client was closed.
func (r *renewals) end() {
	r.mu.Lock()
	asked, due := r.asked, r.due
	r.asked, r.due, r.running = nil, nil, false
	for _, s := range due {
		s.place = unplaced
	}
	r.mu.Unlock()
	for _, f := range asked {
		f.answer <- renewed{err: errClosedStatus}
	}
	for _, s := range due {
		s.end(ErrClosed)
	}
}

// errClosedStatus is the error of a renewal on a closed client; do turns it into
// ErrClosed.
var errClosedStatus = status.Error(codes.Canceled, ErrClosed.Error())

// reason returns why the lease of s was not renewed lately, as far as that is known.
func (r *renewals) reason(s *session) error {
	r.mu.Lock()
	reason := s.reason
	if reason == nil {
		reason = r.failure
	}
	r.mu.Unlock()
	if !r.conn.rpc.IsDisconnected() {
		return reason
	}
	if reason == nil {
		return r.conn.rpc.DialError()
	}
	return errs.WithDetail(reason, r.conn.rpc.DialError())
}

// renewalQueue is a heap of the sessions by when they are to be renewed next.
type renewalQueue []*session

func (q renewalQueue) Len() int { return len(q) }

func (q renewalQueue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }

func (q renewalQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// unplaced is the place of a session that is not in the queue.
const unplaced = -1

// Push implements [heap.Interface].
func (q *renewalQueue) Push(x any) {
	s := x.(*session)
	s.place = len(*q)
	*q = append(*q, s)
}

// Pop implements [heap.Interface].
func (q *renewalQueue) Pop() any {
	last := len(*q) - 1
	s := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	s.place = unplaced
	return s
}
