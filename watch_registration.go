package etcd

import (
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// registration is the place of a watch on one stream. Its responses wait here until a
// goroutine of the watch takes them. The stream's mutex guards it.
type registration struct {
	consumer watchConsumer
	stream   *watchStream
	start    int64 // the revision that was asked for; 0 means now
	fragment bool
	progress bool // the consumer wants to know how far it has seen

	id         int64
	sentAt     time.Time // zero before the request is sent
	registered bool
	left       bool
	head       int64 // the server's revision when it registered the watch
	serial     int   // its place in the order of registrations
	last       int64 // revision of the newest event received

	responses []queuedResponse
	waiting   int   // bytes of them
	room      int   // bytes of them that are not too many
	err       error // why nothing more comes
	upTo      int64 // the revision up to which the stream's progress covers it
	settled   bool  // upTo is final: nothing more comes
}

// watchConsumer is the watch that a registration is for.
type watchConsumer interface {
	// position returns the revision that the next registration asks for, 0 for now, and
	// whether it asks for fragments.
	position() (start int64, fragment bool)
	// wantsProgress reports whether it delivers progress.
	wantsProgress() bool
	// buffer returns how many bytes may wait for it.
	buffer() int
	// request returns what a registration asks for, except its position and its ID.
	request() *pb.WatchCreateRequest
	// signal says that something has come, or that nothing more will. It doesn't block.
	signal()
}

type queuedResponse struct {
	resp  *pb.WatchResponse
	bytes int
}

// attach gives a watch a place on s; it returns nil if s has ended.
func (s *watchStream) attach(w watchConsumer) *registration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil
	}
	r := &registration{consumer: w, stream: s, progress: w.wantsProgress(), room: w.buffer()}
	r.start, r.fragment = w.position()
	s.load++
	s.waiting = append(s.waiting, r)
	s.kick()
	return r
}

// leave gives the place up and returns the revision up to which the watch has certainly
// missed nothing; 0 if it leaves responses behind.
func (r *registration) leave() (upTo int64) {
	s := r.stream
	s.mu.Lock()
	r.left = true
	s.load--
	s.drop(r)
	r.settle()
	if len(r.responses) == 0 {
		upTo = r.upTo
	}
	if !s.own {
		s.hub.queued.Add(-int64(r.waiting))
	}
	r.responses, r.waiting = nil, 0
	s.mu.Unlock()
	if s.own {
		s.end(errNoWatches)
	}
	return upTo
}

// next returns the next response, or the reason why there will be none, or neither yet.
func (r *registration) next() (*pb.WatchResponse, error) {
	s := r.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(r.responses) == 0 {
		return nil, r.err
	}
	q := r.responses[0]
	r.responses[0] = queuedResponse{}
	if r.responses = r.responses[1:]; len(r.responses) == 0 {
		r.responses = nil // the memory of a quiet watch
	}
	r.waiting -= q.bytes
	if s.own {
		select {
		case s.room <- struct{}{}:
		default:
		}
	} else {
		s.hub.queued.Add(-int64(q.bytes))
	}
	return q.resp, nil
}

// append adds a response of n bytes to those that wait.
func (r *registration) append(resp *pb.WatchResponse, n int) {
	r.responses = append(r.responses, queuedResponse{resp, n})
	r.waiting += n
	if len(resp.Events) > 0 {
		r.last = resp.Events[len(resp.Events)-1].Kv.ModRevision
	} else if !resp.Created {
		r.last = max(r.last, resp.Header.GetRevision())
	}
}

// continues reports whether resp continues a revision whose beginning has come. Then it
// can't be dropped any more, since a revision larger than what may wait would never be
// seen whole.
func (r *registration) continues(resp *pb.WatchResponse) bool {
	return len(resp.Events) > 0 && resp.Events[0].Kv.ModRevision == r.last
}

// behind reports whether the watch still catches up with what happened before it was
// registered.
func (r *registration) behind() bool {
	return r.registered && r.start > 0 && r.start <= r.head && r.last < r.head && r.stream.covers(r) == 0
}

// settle records how far the progress of the stream covers r. Later progress is not about
// r.
func (r *registration) settle() {
	if !r.settled {
		r.settled, r.upTo = true, r.stream.covers(r)
	}
}

// finish says that nothing more comes.
func (r *registration) finish(err error) {
	r.settle()
	if r.err == nil {
		r.err = err
	}
	r.consumer.signal()
}

// unanswered reports whether the request was sent and the stream has been silent since.
func (r *registration) unanswered() bool {
	s := r.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.registered || r.sentAt.IsZero() || s.heard.After(r.sentAt) {
		return false
	}
	s.silent = true
	return true
}

// request returns the request that registers the watch.
func (r *registration) request() *pb.WatchCreateRequest {
	req := r.consumer.request()
	req.StartRevision, req.Fragment, req.WatchId = r.start, r.fragment, r.id
	return req
}

var (
	// errLagging ends a registration whose consumer is too far behind.
	errLagging = errors.New("watch is behind")
	// errWatchTooLarge ends a registration that may have received the response that was
	// too large.
	errWatchTooLarge = errors.New("response of a watch is too large")
)
