package etcd

import (
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// requestProgress passes a wish to the streams, and keeps it for those to come.
func (h *watchHub) requestProgress(revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wish.Store(max(h.wish.Load(), revision)) // before the streams, which read it without the lock
	for _, streams := range [][]*watchStream{h.shared, h.own} {
		for _, s := range streams {
			s.wishProgress(revision)
		}
	}
}

// wishProgress asks for progress if a watch on the stream delivers it.
func (s *watchStream) wishProgress(revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.byID {
		if r.progress {
			s.progress.want(revision)
			s.kick()
			return
		}
	}
}

// nextWish returns the request for the progress that somebody waits for, if it is time.
func (s *watchStream) nextWish() *pb.WatchRequest {
	if !s.progress.wish.open || !s.echoes {
		return nil
	}
	s.learn()
	if !s.progress.isDue(time.Now()) {
		return nil
	}
	return progressRequest()
}

// learn finds out, once, whether the stream may ask for progress.
func (s *watchStream) learn() {
	if p := &s.progress; !p.known && !p.learning {
		p.learning = s.hub.conn.rpc.Start(s.learnVersion) == nil
	}
}

func progressRequest() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
}

// untilWish returns how long the writer may wait until it asks again.
func (s *watchStream) untilWish() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.progress.wish; w.open && s.echoes && s.progress.trusted {
		return time.Until(w.due)
	}
	return watchTick
}

// told hands an answer to the watches that deliver progress. The wish is granted when it
// covers all of them, or when none is left.
func (s *watchStream) told(revision int64) {
	p := &s.progress
	p.told(revision)
	granted := true
	for _, r := range s.byID {
		if !r.progress {
			continue
		}
		upTo := s.covers(r)
		if upTo > 0 {
			r.tell(upTo)
		}
		granted = granted && upTo >= p.wish.revision
	}
	if granted {
		p.wish = progressWish{}
	}
}

// tell appends progress to what waits for the consumer, in the place of older progress.
func (r *registration) tell(upTo int64) {
	resp := &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: upTo}}
	if n := len(r.responses); n > 0 && isProgress(r.responses[n-1].resp) {
		r.responses[n-1].resp = resp
		r.last = max(r.last, upTo)
	} else {
		r.append(resp, 0)
	}
	r.consumer.signal()
}

func isProgress(resp *pb.WatchResponse) bool {
	return len(resp.Events) == 0 && !resp.Created && !resp.Canceled
}
