package rpc

import (
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Mark is a point in the history of a cluster. Both numbers only grow, until the
// cluster is restored from a backup.
type Mark struct {
	Revision int64
	term     uint64
}

// Precedes reports whether a linearizable answer is from the history in which the mark
// was set, as far as can be told.
func (m Mark) Precedes(h *pb.ResponseHeader) bool {
	return h.GetRevision() >= m.Revision && (h.GetRaftTerm() >= m.term || h.GetRaftTerm() == 0)
}

// Seen is the newest point of the history that a client was told of. It is safe for
// concurrent use.
type Seen struct {
	first    atomic.Int64 // the revision that it was told first
	revision atomic.Int64
	term     atomic.Uint64
}

// Mark returns that point.
func (s *Seen) Mark() Mark { return Mark{s.revision.Load(), s.term.Load()} }

// First returns the revision of the first answer; 0 before it.
func (s *Seen) First() int64 { return s.first.Load() }

// Note takes in an answer.
func (s *Seen) Note(answer any) {
	a, ok := answer.(interface{ GetHeader() *pb.ResponseHeader })
	if !ok {
		return
	}
	h := a.GetHeader()
	s.NoteRevision(h.GetRevision())
	for t := s.term.Load(); h.GetRaftTerm() > t && !s.term.CompareAndSwap(t, h.GetRaftTerm()); {
		t = s.term.Load()
	}
}

// NoteRevision takes in a revision alone.
func (s *Seen) NoteRevision(revision int64) {
	if s.first.Load() == 0 {
		s.first.CompareAndSwap(0, revision)
	}
	for r := s.revision.Load(); revision > r && !s.revision.CompareAndSwap(r, revision); {
		r = s.revision.Load()
	}
}

// Regress begins anew, with an answer that the newest point does not precede.
func (s *Seen) Regress(h *pb.ResponseHeader) {
	s.revision.Store(h.GetRevision())
	s.term.Store(h.GetRaftTerm())
}
