package etcd

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd/internal/rpc"
)

// watchStream is a stream that watches share, or one that a single watch has. Two
// goroutines serve it. One reads, and never waits for a consumer unless the stream has
// only one. The other writes, so that a server that doesn't read holds up no caller.
type watchStream struct {
	hub    *watchHub
	own    bool
	limit  int // of a response, in bytes
	ctx    context.Context
	cancel context.CancelFunc
	work   chan struct{} // holds one value when there is something to write
	room   chan struct{} // the same when the consumer of an own stream has read

	mu       sync.Mutex
	err      error // why it ended
	token    *rpc.Token
	givenUp  bool // takes no more watches
	silent   bool // a registration got no answer in time, and nothing came since
	heard    time.Time
	full     bool // the reader waits for the consumer of an own stream
	probe    *registration
	probedAt time.Time
	load     int
	idle     bool // had no watch at the last tick
	lastID   int64
	waiting  []*registration // not sent yet
	sent     []*registration // in the order of sending, not answered yet
	byID     map[int64]*registration
	cancels  []int64 // to be sent
	progress progressLedger
	// echoes says that the server accepts IDs chosen here. etcd does, and answers in
	// order; its grpc-proxy does neither, so it is asked for one watch at a time and
	// never for progress.
	echoes bool
}

var (
	// errMoved ends a stream whose watches are better off on another one.
	errMoved = errors.New("watch moves to another stream")
	// errNoWatches ends a stream without watches.
	errNoWatches = errors.New("stream without watches")
)

// firstWatchID is an ID that no server or proxy would choose.
const firstWatchID = 1 << 32

type streamUse int

const (
	streamGood streamUse = iota
	streamSilent
	streamGivenUp
)

func newWatchStream(h *watchHub, own bool, limit int) *watchStream {
	s := &watchStream{
		hub: h, own: own, limit: limit,
		work: make(chan struct{}, 1), room: make(chan struct{}, 1),
		heard:  time.Now(),
		lastID: firstWatchID, byID: make(map[int64]*registration),
	}
	// Since it requires a leader, a member that lost the quorum ends the stream instead
	// of staying silent.
	ctx := clientv3.WithRequireLeader(rpc.WithRoute(h.ctx))
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// run opens the stream and reads it until it ends.
func (s *watchStream) run() {
	defer s.cancel()
	c := s.hub.conn
	if err := c.rpc.Auth.Ensure(s.ctx); err != nil {
		s.end(err)
		return
	}
	s.mu.Lock()
	s.token = c.rpc.Auth.Current()
	s.mu.Unlock()
	stream, err := c.rpc.Follow(s.ctx, grpc.MaxCallRecvMsgSize(s.limit))
	if err == nil {
		err = c.rpc.Start(func() { s.write(stream) })
	}
	for err == nil {
		var resp *pb.WatchResponse
		if resp, err = stream.Recv(); err == nil {
			s.receive(resp)
		}
	}
	if errors.Is(err, io.EOF) {
		// No server ends a stream in this way; a proxy that is shut down does.
		err = status.Error(codes.Unavailable, "watch stream ended")
	}
	if rpc.Interpret(err).Elsewhere() {
		rpc.Avoid(s.ctx)
	}
	s.end(err)
}

// watchTick is how often a stream is checked: it ends if it has no watches, and otherwise
// asks for progress.
const watchTick = time.Second

// write sends whatever there is to send until the stream ends.
func (s *watchStream) write(stream pb.Watch_WatchClient) {
	ticker := time.NewTicker(watchTick)
	defer ticker.Stop()
	again := time.NewTimer(watchTick)
	defer again.Stop()
	for tick := 1; ; {
		for req := s.next(); req != nil; req = s.next() {
			if stream.Send(req) != nil {
				return // the reader gets the reason
			}
		}
		again.Reset(s.untilWish())
		select {
		case <-s.ctx.Done():
			return
		case <-s.work:
		case <-again.C:
		case <-ticker.C:
			req := s.tick(tick)
			if tick++; req != nil && stream.Send(req) != nil {
				return
			}
		}
	}
}

// next returns the next request to send, or nil.
func (s *watchStream) next() *pb.WatchRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.cancels); n > 0 {
		id := s.cancels[n-1]
		s.cancels = s.cancels[:n-1]
		return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
	}
	for len(s.waiting) > 0 && (s.echoes || len(s.sent) == 0) {
		r := s.waiting[0]
		s.waiting[0] = nil
		if s.waiting = s.waiting[1:]; len(s.waiting) == 0 {
			s.waiting = nil
		}
		if r.left && r != s.probe {
			continue
		}
		s.lastID++
		r.id, r.sentAt = s.lastID, time.Now()
		s.sent = append(s.sent, r)
		return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r.request()}}
	}
	return s.nextWish()
}

// tick ends a stream that has had no watches for a while, or that has gone silent, and
// returns the request for progress when it is time for one: every second, and less often
// with many watches, which the server checks one by one.
func (s *watchStream) tick(n int) *pb.WatchRequest {
	s.mu.Lock()
	registered := len(s.byID)
	unused := s.load == 0
	ended := unused && s.idle
	s.idle = unused
	ask := s.echoes && registered > 0 && n%(1+registered/watchesPerStream) == 0
	if ask {
		s.learn()
	}
	ask = ask && s.progress.ask()
	dead := s.isDead(time.Now())
	s.mu.Unlock()
	switch {
	case ended:
		s.end(errNoWatches)
	case dead:
		rpc.Avoid(s.ctx)
		s.end(errUnansweredProbe)
	}
	if !ask {
		return nil
	}
	return progressRequest()
}

// receive hands a response to its watch.
func (s *watchStream) receive(resp *pb.WatchResponse) {
	if resp.Header.GetClusterId() != 0 { // else it may be a proxy's word (checkHistory)
		s.hub.conn.rpc.Seen.NoteRevision(resp.Header.GetRevision())
	}
	s.mu.Lock()
	s.heard, s.silent = time.Now(), false
	if s.progress.member == 0 {
		s.progress.member = resp.Header.GetMemberId()
	}
	var r *registration
	switch {
	case resp.Created:
		s.created(resp)
	case isProgressOfAll(resp):
		s.told(resp.Header.GetRevision())
	default:
		if r = s.byID[resp.WatchId]; r != nil {
			s.queue(r, resp)
		}
	}
	wait := s.own && r != nil && r.waiting > r.room
	s.full = wait
	s.mu.Unlock()
	for wait {
		select {
		case <-s.room:
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		wait = !r.left && r.waiting > r.room
		s.full, s.heard = wait, time.Now()
		s.mu.Unlock()
	}
}

func isProgressOfAll(resp *pb.WatchResponse) bool {
	return resp.WatchId == clientv3.InvalidWatchID && !resp.Canceled && len(resp.Events) == 0
}

// created finds the registration that a response answers.
func (s *watchStream) created(resp *pb.WatchResponse) {
	i := 0 // by order, if the ID is not the one asked for
	for j, r := range s.sent {
		if r.id == resp.WatchId {
			i, s.echoes = j, true
			break
		}
	}
	if i >= len(s.sent) {
		if !resp.Canceled {
			s.cancels = append(s.cancels, resp.WatchId) // it belongs to no watch
		}
		return
	}
	r := s.sent[i]
	s.sent = append(s.sent[:i], s.sent[i+1:]...)
	switch {
	case r.left && !resp.Canceled:
		s.cancels = append(s.cancels, resp.WatchId)
		if r == s.probe && resp.Header.GetClusterId() != 0 { // else it may be a proxy's word (checkHistory)
			s.probed(resp.Header.GetRevision())
		}
	case r.left:
	case resp.Canceled:
		s.queue(r, resp)
	default:
		r.id, r.registered = resp.WatchId, true
		r.head, r.serial = resp.Header.GetRevision(), s.progress.register()
		s.byID[r.id] = r
		s.queue(r, resp)
		if wish := s.hub.wish.Load(); r.progress && wish >= r.start {
			s.progress.want(wish)
		}
	}
	s.kick() // for the next one, or the cancellation
}

// queue appends a response to those that wait for the consumer of r. On a shared stream a
// consumer that is too far behind loses its place: it reads what waits and then continues
// elsewhere.
func (s *watchStream) queue(r *registration, resp *pb.WatchResponse) {
	if err := rpc.CheckEvents(resp); err != nil {
		s.drop(r)
		r.finish(err)
		return
	}
	n := eventBytes(resp.Events)
	if !s.own && s.hub.full(r, n) && !r.continues(resp) {
		s.drop(r)
		r.finish(errLagging)
		return
	}
	r.append(resp, n)
	if !s.own {
		s.hub.queued.Add(int64(n))
	}
	if resp.Canceled {
		r.settle()
		if resp.CompactRevision > 0 {
			s.drop(r) // the server keeps it, and would report no more progress
		}
		delete(s.byID, r.id)
	}
	r.consumer.signal()
}

// drop ends the registration of r on the server.
func (s *watchStream) drop(r *registration) {
	if s.byID[r.id] == r {
		delete(s.byID, r.id)
		s.cancels = append(s.cancels, r.id)
		s.kick()
	}
}

// kick wakes the writer.
func (s *watchStream) kick() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

// end ends the stream and passes the reason to its watches. The first reason counts.
func (s *watchStream) end(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	guilty, others := s.guilty(err)
	tooLarge := isTooLarge(err)
	if tooLarge {
		err = errMoved
	}
	for _, r := range guilty {
		r.finish(errWatchTooLarge)
	}
	for _, r := range others {
		r.finish(err)
	}
	s.waiting, s.sent, s.byID = nil, nil, nil
	s.mu.Unlock()
	s.cancel()
	s.hub.ended(s, tooLarge && len(guilty) == 0)
	if !errors.Is(err, errMoved) && !errors.Is(err, errNoWatches) && s.hub.ctx.Err() == nil {
		s.hub.noteOutage(len(others), err)
	}
}

// guilty separates the watches that may have received what ended the stream from the
// others. If a response was too large, the server doesn't say whose it was. It may belong
// to a watch that catches up; if none does, the limit is at fault.
func (s *watchStream) guilty(err error) (guilty, others []*registration) {
	tooLarge := isTooLarge(err)
	all := tooLarge && s.limit > watchMessageBytes
	for _, r := range s.byID {
		if all || tooLarge && r.behind() {
			guilty = append(guilty, r)
		} else {
			others = append(others, r)
		}
	}
	for _, r := range slices.Concat(s.sent, s.waiting) {
		if r != s.probe {
			others = append(others, r)
		}
	}
	return guilty, others
}

// giveUp keeps further watches off the stream, and returns its token.
func (s *watchStream) giveUp() *rpc.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.givenUp = true
	return s.token
}

func (s *watchStream) use() streamUse {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.givenUp || s.err != nil:
		return streamGivenUp
	case s.silent:
		return streamSilent
	}
	return streamGood
}

// isTooLarge reports whether err says that a message was too large, at either end.
func isTooLarge(err error) bool { return err != nil && errors.Is(rpc.Interpret(err).Kind, ErrTooLarge) }

func (s *watchStream) watches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load
}
