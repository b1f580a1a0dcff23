package etcd

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// A quiet watch must know how far it has seen; otherwise a compaction of other keys ends
// it when it reconnects. So each stream asks the server. When all its watches are up to
// date, the server answers with the revision up to which they are.
//
// The answers don't say which watches existed when they were made, and while a watch
// catches up the server leaves one out, so that the next one looks like it. An answer
// covers a watch if the watch was registered first. That is certain if the server's
// revision was lower than in the answer, or if the request was sent after the registration.
//
// A server that leaves an answer out never makes up for it. So each answer is taken for
// that to the oldest request without one, which can only underrate what it covers.

// progressLedger is what a stream knows about its progress. The stream's mutex guards it.
type progressLedger struct {
	member   uint64 // the server at the other end
	learning bool
	known    bool // trusted is known
	trusted  bool

	registered int           // how many registrations there have been
	open       []openRequest // requests without an answer, the oldest first
	revision   int64         // the newest answer
	exact      int64         // the newest answer, which covers the registrations up to exactMark
	exactMark  int
	wish       progressWish
}

// openRequest stands for requests for progress, with nothing registered between them.
type openRequest struct{ mark, requests int }

// progressWish is progress that somebody waits for: see [Client.RequestProgress].
type progressWish struct {
	open     bool
	revision int64
	asked    time.Time // when it was asked last
	due      time.Time // when to ask again
	pause    time.Duration
}

// firstProgressPause is how long a stream waits for the answer before it asks again; it
// doubles up to watchTick. A member that lags behind answers too early, and one at which a
// watch catches up not at all.
const firstProgressPause = 5 * time.Millisecond

// register numbers a registration.
func (p *progressLedger) register() int {
	p.registered++
	return p.registered
}

// ask reports whether to ask for progress, and counts it.
func (p *progressLedger) ask() bool {
	if !p.trusted {
		return false
	}
	if n := len(p.open); n > 0 && p.open[n-1].mark == p.registered {
		p.open[n-1].requests++
	} else {
		p.open = append(p.open, openRequest{p.registered, 1})
	}
	return true
}

// told takes an answer into account.
func (p *progressLedger) told(revision int64) {
	if !p.trusted || len(p.open) == 0 {
		return
	}
	oldest := &p.open[0]
	p.revision = max(p.revision, revision)
	p.exact, p.exactMark = p.revision, oldest.mark
	if oldest.requests--; oldest.requests == 0 {
		p.open = slices.Delete(p.open, 0, 1)
	}
}

// want opens a wish, or widens the one that is open. A wish for a revision that is far
// away may last, and be asked for rarely: whoever comes later doesn't wait for its turn.
func (p *progressLedger) want(revision int64) {
	if !p.wish.open {
		p.wish = progressWish{open: true}
	}
	w := &p.wish
	w.revision, w.pause = max(w.revision, revision), firstProgressPause
	if soon := w.asked.Add(w.pause); soon.Before(w.due) {
		w.due = soon
	}
}

// isDue reports whether to ask for what somebody waits for, and puts the next time off.
func (p *progressLedger) isDue(now time.Time) bool {
	w := &p.wish
	if !w.open || now.Before(w.due) || !p.ask() {
		return false
	}
	w.asked, w.due = now, now.Add(w.pause)
	w.pause = min(2*w.pause, watchTick)
	return true
}

// covers returns the revision up to which r has been sent everything, as far as the
// answers show.
func (s *watchStream) covers(r *registration) int64 {
	p := &s.progress
	switch {
	case !r.registered:
		return 0
	case p.revision > r.head:
		return p.revision
	case r.serial <= p.exactMark:
		return p.exact
	}
	return 0
}

// learnVersion finds out whether the server at the other end answers in order. It asks
// over the connection, which may lead to another server.
func (s *watchStream) learnVersion() {
	c := s.hub.conn
	s.mu.Lock()
	member := s.progress.member
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.hub.ctx, c.cfg.RequestTimeout)
	defer cancel()
	known, trusted := true, false
	for range 2 * c.rpc.EndpointCount() {
		resp, err := do(ctx, c, request{op: "status"}, c.rpc.Status, &pb.StatusRequest{})
		if err != nil {
			known = !IsRetryable(err)
			break
		}
		if resp.Header.GetMemberId() == member {
			trusted = progressInOrder(resp.Version)
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress.learning, s.progress.known, s.progress.trusted = false, known, trusted
	s.kick() // for a wish
}

// progressInOrder reports whether a server of this version reports progress only after
// the events before it. Servers do since 3.4.31 and 3.5.13 (etcd-io/etcd#15220).
func progressInOrder(version string) bool {
	version, _, _ = strings.Cut(version, "-")
	var v [3]int
	parts := strings.Split(version, ".")
	if len(parts) != len(v) {
		return false
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil {
			return false
		}
		v[i] = n
	}
	switch {
	case v[0] != 3:
		return v[0] > 3
	case v[1] == 4:
		return v[2] >= 31
	case v[1] == 5:
		return v[2] >= 13
	}
	return v[1] > 5
}
