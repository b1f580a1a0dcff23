package etcd

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// RequestProgress asks how far the watches of this client that have [WithProgressNotify]
// have seen. It returns at once. Each of them delivers a response without events, with a
// Revision of at least revision, as soon as the server says so and everything up to it is
// delivered; a watch that is interrupted does so when it is resumed. Zero means whatever
// revision the server has.
//
//	revision, err := client.Revision(ctx)
//	…
//	err = client.RequestProgress(ctx, revision)
//	// The next progress of a watch shows that it has delivered every change before the call.
//
// It takes one message on each stream that watches share. While the member at the other end
// is behind the revision, or a watch on the stream catches up, the message is repeated, at
// first after 5 ms and then less and less often, up to once a second. Servers before 3.4.31
// and 3.5.13, and etcd's grpc-proxy, don't report progress in order: from them nothing comes.
//
// A negative revision fails with [ErrInvalidArgument]. Without such watches nothing is sent.
func (c *Client) RequestProgress(ctx context.Context, revision int64) error {
	const op = "request progress"
	if err := c.admit(ctx); err != nil {
		return fail(op, "", err)
	}
	if revision < 0 {
		return fail(op, "", fmt.Errorf("%w: negative revision", ErrInvalidArgument))
	}
	c.watches.requestProgress(revision)
	return nil
}

// requestProgress passes a wish to the streams, and keeps it for those to come.
func (h *watchHub) requestProgress(revision int64) {
	for old := h.wish.Load(); old < revision && !h.wish.CompareAndSwap(old, revision); old = h.wish.Load() {
	}
	h.mu.Lock()
	defer h.mu.Unlock()
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
