package etcd

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// A client's watches share HTTP/2 streams: a connection has room for a limited number of
// them (250 on etcd 3.4 with TLS, often 100 behind a proxy), and requests and renewals
// need some too.
const (
	// sharedWatchStreams is how many streams the watches of a client share.
	sharedWatchStreams = 4
	// watchesPerStream is how many watches a stream takes before another one is opened.
	watchesPerStream = 1000
	// ownWatchStreams is how many watches may have a stream of their own at a time,
	// because their consumers fell behind or because what they missed is large.
	ownWatchStreams = 16
	// watchQueueBytes is how much may wait for the consumer of one watch, unless it says
	// otherwise, and watchQueuesBytes for those of a client together, before a watch counts as lagging.
	watchQueueBytes  = 1 << 20
	watchQueuesBytes = 64 << 20
	// watchMessageBytes limits a response on a shared stream. A watch that catches
	// up gets up to 1000 revisions in one, which may be more than a gigabyte.
	watchMessageBytes = 32 << 20
)

// watchHub distributes the watches of a client over streams.
type watchHub struct {
	conn   *conn
	codec  *codec
	ctx    context.Context // of all streams
	cancel context.CancelFunc
	queued atomic.Int64 // bytes that wait for consumers on shared streams
	wish   atomic.Int64 // the newest revision that somebody wants to know of
	outage atomic.Bool  // a stream has failed, and no watch was registered since

	mu     sync.Mutex // taken before that of a stream; held over nothing that blocks
	shared []*watchStream
	own    []*watchStream
	limit  int // of a response on a shared stream
}

func newWatchHub(c *conn, codec *codec) *watchHub {
	h := &watchHub{conn: c, codec: codec, limit: watchMessageBytes}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// join gives a watch a place on a stream: one of its own if it wants that and one is
// left, and not avoid if that can be helped. It doesn't wait.
func (h *watchHub) join(w watchConsumer, own bool, avoid *watchStream) (*registration, error) {
	for {
		s, old, err := h.pick(own, avoid)
		if old != nil {
			old.end(errMoved)
		}
		if err != nil {
			return nil, err
		}
		if r := s.attach(w); r != nil {
			return r, nil
		}
	}
}

// pick returns the stream for one more watch, and the one that must end for it.
func (h *watchHub) pick(own bool, avoid *watchStream) (s, old *watchStream, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if own && len(h.own) < ownWatchStreams {
		if s, err = h.open(true, math.MaxInt32); err == nil {
			h.own = append(h.own, s)
		}
		return s, nil, err
	}
	best, spare := h.least(avoid)
	full := len(h.shared) >= sharedWatchStreams
	switch {
	case best != nil && (best.watches() < watchesPerStream || full):
		return best, nil, nil
	case full && spare != nil:
		return spare, nil, nil
	case full:
		// All have been given up; the watches of the oldest one move here too.
		old = h.shared[0]
		h.shared = h.shared[1:]
	}
	if s, err = h.open(false, h.limit); err == nil {
		h.shared = append(h.shared, s)
	}
	return s, old, err
}

// least returns the stream with the fewest watches among the usable ones, and among those
// whose only fault is silence.
func (h *watchHub) least(avoid *watchStream) (best, spare *watchStream) {
	fewer := func(s, than *watchStream) bool { return than == nil || s.watches() < than.watches() }
	for _, s := range h.shared {
		switch use := s.use(); {
		case use == streamGivenUp:
		case use == streamSilent || s == avoid:
			if fewer(s, spare) {
				spare = s
			}
		case fewer(s, best):
			best = s
		}
	}
	return best, spare
}

// open opens a stream.
func (h *watchHub) open(own bool, limit int) (*watchStream, error) {
	s := newWatchStream(h, own, limit)
	if err := h.conn.rpc.Start(s.run); err != nil {
		s.cancel()
		return nil, err
	}
	return s, nil
}

// ended removes a stream from the list.
func (h *watchHub) ended(s *watchStream, tooLarge bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if tooLarge {
		h.limit = math.MaxInt32
	}
	same := func(other *watchStream) bool { return other == s }
	h.shared, h.own = slices.DeleteFunc(h.shared, same), slices.DeleteFunc(h.own, same)
}

// full reports whether n more bytes are too much for a consumer with what it has left
// unread. There is always room for one response.
func (h *watchHub) full(r *registration, n int) bool {
	return r.waiting > 0 && (r.waiting+n > r.room || h.queued.Load()+int64(n) > watchQueuesBytes)
}

// noteOutage logs that watches lost their stream, and noteRecovery that they are registered
// again; once each, and not for every watch and attempt.
func (h *watchHub) noteOutage(watches int, err error) {
	if watches > 0 && !h.outage.Swap(true) {
		_, err = watchFailure(err)
		h.conn.cfg.Logger.Warn("etcd: watches are interrupted", slog.Int("watches", watches), slog.Any("error", err))
	}
}

func (h *watchHub) noteRecovery() {
	if h.outage.Load() && h.outage.Swap(false) {
		h.conn.cfg.Logger.Info("etcd: watches are resumed")
	}
}
