package etcd

import (
	"container/heap"
	"context"
	"errors"
	"io"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// renewalStream is one stream of renewals. The mu of renewals guards the fields from
// calls on.
//
// A server answers in the order of the requests; grpc-proxy answers in the order in which
// it hears of the leases itself. Both answer requests about one lease in their order.
type renewalStream struct {
	renewals *renewals
	ctx      context.Context
	cancel   context.CancelCauseFunc
	token    *rpc.Token    // that it was opened with
	ended    chan struct{} // closed when receive has ended

	calls renewalCalls // nil until it is open
	peer  *peer.Peer   // nil if it isn't known

	order []*inFlight           // sent, the oldest first; answered ones are left at once at the front
	byID  map[int64][]*inFlight // sent and not answered
	// silence is how long the stream may be silent while an answer is awaited, counted
	// from waiting: patience times the usual. Then watch ends it.
	patience int
	silence  time.Duration

	waiting time.Time
	heard   time.Time
	watch   *time.Timer
	answers int
}

// inFlight is one request for a renewal.
type inFlight struct {
	id      int64
	session *session // nil for a single renewal, which has answer
	answer  chan renewed
	// Set when it is sent:
	stream              *renewalStream
	sent                time.Time
	answered, forgotten bool
}

// newStream prepares a stream that may be silent for patience times the usual.
func (r *renewals) newStream(patience int) *renewalStream {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &renewalStream{renewals: r, ended: make(chan struct{}), byID: map[int64][]*inFlight{}}
	ctx := clientv3.WithRequireLeader(context.Background()) // else a member that is cut off stays silent
	if r.conn.rpc.HasSeveralEndpoints() {
		ctx = rpc.OnRoute(ctx, r.route)
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.patience = patience
	s.silence = s.patient(r.shortest())
	s.waiting = time.Now()
	s.watch = time.AfterFunc(s.silence, s.look)
	return s
}

// patient returns how long the stream may stay silent for a lease with this time to live.
func (s *renewalStream) patient(ttl time.Duration) time.Duration {
	return time.Duration(s.patience) * ttl / silencesPerTTL
}

// shortest returns the shortest time to live of the leases kept alive. r.mu must be held.
func (r *renewals) shortest() time.Duration {
	ttl := DefaultLockTTL
	for _, s := range r.due {
		ttl = min(ttl, s.ttl)
	}
	return ttl
}

// run opens the stream and sends what is due until it ends, and returns the reason. A nil
// error means that nothing is left to renew.
func (s *renewalStream) run() error {
	defer s.watch.Stop()
	defer s.cancel(nil)
	c := s.renewals.conn
	if err := s.open(); err != nil {
		return s.cause(err)
	}
	var received error
	err := c.rpc.Start(func() {
		defer close(s.ended)
		received = s.receive()
		s.cancel(received) // the stream may be holding up a send
	})
	if err != nil {
		return errClosedStatus
	}
	idle := s.send()
	s.cancel(nil)
	<-s.ended
	if idle {
		return nil
	}
	return s.cause(received)
}

// open opens the stream, with a token if one is needed.
func (s *renewalStream) open() error {
	c := s.renewals.conn
	if err := c.rpc.Auth.Ensure(s.ctx); err != nil {
		return err
	}
	s.token = c.rpc.Auth.Current()
	calls, err := s.renewals.open(s.ctx)
	if err != nil {
		return err
	}
	s.renewals.mu.Lock()
	defer s.renewals.mu.Unlock()
	s.calls = calls
	if p, ok := peer.FromContext(calls.Context()); ok {
		s.peer = p
	}
	return nil
}

// cause returns why the stream ended: gRPC only says that it was cancelled.
func (s *renewalStream) cause(err error) error {
	if errors.Is(context.Cause(s.ctx), errSilentStream) {
		return status.Error(codes.DeadlineExceeded, errSilentStream.Error())
	}
	return err
}

// look ends the stream if it has been silent for too long.
func (s *renewalStream) look() {
	s.renewals.mu.Lock()
	defer s.renewals.mu.Unlock()
	if s.calls != nil && len(s.byID) == 0 {
		s.watch.Reset(s.silence) // nothing is awaited
		return
	}
	if left := s.silence - time.Since(s.waiting); left > 0 {
		s.watch.Reset(left)
		return
	}
	s.cancel(errSilentStream)
}

// send sends what is due until the stream ends, or reports that nothing has been due for
// long.
func (s *renewalStream) send() (idle bool) {
	r := s.renewals
	quiet := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		for f := s.next(); f != nil; f = s.next() {
			quiet = time.Now()
			if s.calls.Send(&pb.LeaseKeepAliveRequest{ID: f.id}) != nil {
				<-s.ended // with the reason
				return false
			}
		}
		r.mu.Lock()
		wait, none := r.untilDue(time.Now())
		none = none && len(s.byID) == 0
		r.mu.Unlock()
		if none && time.Since(quiet) >= renewalLinger {
			return true
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-r.wake:
		case <-s.ended:
			return false
		case <-r.conn.rpc.Closing():
			return false
		}
	}
}

// next takes a renewal that is due and records that it is being sent; nil if there is
// none.
func (s *renewalStream) next() *inFlight {
	r := s.renewals
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.take(time.Now(), s)
	if f == nil {
		return nil
	}
	f.stream, f.sent = s, time.Now()
	if len(s.byID) == 0 {
		s.waiting = f.sent
	}
	if f.session != nil && s.patient(f.session.ttl) < s.silence { // it was added later
		s.silence = s.patient(f.session.ttl)
		s.watch.Reset(s.silence)
	}
	s.order = append(s.order, f)
	s.byID[f.id] = append(s.byID[f.id], f)
	return f
}

// maxInFlight bounds the unanswered requests about one lease. With two rather than one,
// the times stay short behind a proxy that answers at its own pace; many would drown a
// server that is behind.
const maxInFlight = 2

// take takes a renewal that is due at now, for s. It also takes those that are due soon:
// many in one write cost less. r.mu must be held.
func (r *renewals) take(now time.Time, s *renewalStream) *inFlight {
	for len(r.asked) > 0 {
		f := r.asked[0]
		r.asked = r.asked[1:]
		if !f.forgotten {
			return f
		}
	}
	for len(r.due) > 0 {
		on := r.due[0]
		interval := on.interval()
		if on.next.Sub(now) > interval/renewalsPerTTL {
			return nil
		}
		on.next = now.Add(interval)
		heap.Fix(&r.due, 0)
		if len(s.byID[int64(on.id)]) < maxInFlight {
			return &inFlight{id: int64(on.id), session: on}
		}
	}
	return nil
}

// receive passes on the answers until the stream ends, and returns the reason.
func (s *renewalStream) receive() error {
	for {
		resp, err := s.calls.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return status.Error(codes.Unavailable, "stream of renewals ended")
		case err != nil:
			return err
		}
		if f := s.take(resp.ID); f != nil {
			f.deliver(resp)
		}
	}
}

// take takes the oldest request about a lease, which was just answered, or nil.
func (s *renewalStream) take(id int64) *inFlight {
	r := s.renewals
	r.mu.Lock()
	defer r.mu.Unlock()
	s.heard = time.Now()
	s.waiting = s.heard
	s.answers++
	r.failure = nil
	waiting := s.byID[id]
	if len(waiting) == 0 {
		return nil
	}
	f := waiting[0]
	f.answered = true
	if len(waiting) == 1 {
		delete(s.byID, id)
	} else {
		s.byID[id] = waiting[1:]
	}
	for len(s.order) > 0 && s.order[0].answered {
		s.order = s.order[1:]
	}
	if f.session != nil {
		f.session.reason = nil
	}
	return f
}

// deliver hands an answer to whoever asked.
func (f *inFlight) deliver(resp *pb.LeaseKeepAliveResponse) {
	switch {
	case f.session == nil:
		f.answer <- renewed{resp: resp}
	case resp.TTL <= 0:
		f.session.end(errLeaseGone)
	default:
		f.session.renewed(f.sent, time.Duration(resp.TTL)*time.Second)
	}
}

// errLeaseGone is the reason when the server no longer knows a lease.
var errLeaseGone = errs.WithKind(ErrLeaseLost, ErrLeaseNotFound)

// judge passes the reason why the stream ended to all who wait for an answer, and makes
// the sessions' renewals due again. It reports whether the next stream should wait.
//
// A refusal ends the stream although it concerns only one lease: the one whose answer was
// next. All others are sent again at once, and that one when it is due.
func (s *renewalStream) judge(err error) (wait bool) {
	if err == nil {
		return false
	}
	r := s.renewals
	a := rpc.Interpret(err)
	if a.Remedy == rpc.RefreshToken {
		r.conn.rpc.Auth.Invalidate(s.token)
	}
	if a.Elsewhere() {
		rpc.Avoid(s.ctx)
	}
	reason, now := rpc.Describe(a.Kind, err), time.Now()
	r.mu.Lock()
	waiting := s.order
	if s.calls == nil { // it was never open
		waiting, r.asked = r.asked, nil
	}
	refused := a.Refused && a.Remedy == rpc.GiveUp && len(s.order) > 0
	if !refused {
		r.failure = reason
	}
	for i, f := range waiting {
		switch on := f.session; {
		case on == nil || on.place == unplaced || f.answered:
		case refused && i == 0:
			on.reason = reason
		default:
			on.next = now
			heap.Fix(&r.due, on.place)
		}
	}
	r.mu.Unlock()
	for i, f := range waiting {
		switch {
		case f.session != nil || f.answered:
		case refused && i > 0:
			f.answer <- renewed{err: errOthersRefusal}
		default:
			f.answer <- renewed{err: err}
		}
	}
	return !refused
}

// errOthersRefusal makes do send a renewal again.
var errOthersRefusal = status.Error(codes.Unavailable, "stream of renewals ended by a refusal of another lease")

// noteSent tells do that a request was sent, if it was.
func (r *renewals) noteSent(f *inFlight, opts []grpc.CallOption) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.stream != nil && f.stream.peer != nil {
		rpc.NotePeer(opts, f.stream.peer)
	}
}
