package etcd

import (
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// mark is a point in the history of a cluster. Both numbers only grow, until the
// cluster is restored from a backup.
type mark struct {
	revision int64
	term     uint64
}

// precedes reports whether a linearizable answer is from the history in which the mark
// was set, as far as can be told.
func (m mark) precedes(h *pb.ResponseHeader) bool {
	return h.GetRevision() >= m.revision && (h.GetRaftTerm() >= m.term || h.GetRaftTerm() == 0)
}

// seen is the newest point of the history that a client was told of. It is safe for
// concurrent use.
type seen struct {
	first    atomic.Int64 // the revision that it was told first
	revision atomic.Int64
	term     atomic.Uint64
}

func (s *seen) mark() mark { return mark{s.revision.Load(), s.term.Load()} }

// note takes in an answer.
func (s *seen) note(answer any) {
	a, ok := answer.(interface{ GetHeader() *pb.ResponseHeader })
	if !ok {
		return
	}
	h := a.GetHeader()
	s.noteRevision(h.GetRevision())
	for t := s.term.Load(); h.GetRaftTerm() > t && !s.term.CompareAndSwap(t, h.GetRaftTerm()); {
		t = s.term.Load()
	}
}

// noteRevision takes in a revision alone.
func (s *seen) noteRevision(revision int64) {
	if s.first.Load() == 0 {
		s.first.CompareAndSwap(0, revision)
	}
	for r := s.revision.Load(); revision > r && !s.revision.CompareAndSwap(r, revision); {
		r = s.revision.Load()
	}
}

// regress begins anew, with an answer that the newest point does not precede.
func (s *seen) regress(h *pb.ResponseHeader) {
	s.revision.Store(h.GetRevision())
	s.term.Store(h.GetRaftTerm())
}
