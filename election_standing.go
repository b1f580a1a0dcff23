package etcd

import (
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/txntree"
)

// reads returns the operations that read how the election stands; by the keys alone, which suffices
// to campaign, or also what they hold and their leases.
func (r electionRanges) reads(keysOnly bool) []*pb.RequestOp {
	return []*pb.RequestOp{
		txntree.Range(&pb.RangeRequest{Key: r.leader, KeysOnly: keysOnly}),
		txntree.Range(&pb.RangeRequest{Key: r.candidates.Start, RangeEnd: r.candidates.End, KeysOnly: keysOnly}),
		txntree.Range(&pb.RangeRequest{Key: r.successors.Start, RangeEnd: r.successors.End, KeysOnly: keysOnly}),
	}
}

// standing is how an election stands at a revision.
type standing struct {
	ranges     electionRanges
	revision   int64
	leader     int64 // the create revision of the leader's key; 0 if nobody leads
	leaderKey  *mvccpb.KeyValue
	candidates []candidate
	named      []byte // the key that names a successor; nil if there is none
	namedAt    int64  // its create revision
}

// standingOf evaluates the answers to reads.
func (r electionRanges) standingOf(answers []*pb.ResponseOp, revision int64) (standing, error) {
	if len(answers) != 3 {
		return standing{}, errIncomplete
	}
	s := standing{ranges: r, revision: revision, candidates: r.inOrder(answers[1].GetResponseRange().GetKvs())}
	if kvs := answers[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		s.leader, s.leaderKey = kvs[0].CreateRevision, kvs[0]
	}
	if kvs := answers[2].GetResponseRange().GetKvs(); len(kvs) > 0 {
		s.named, s.namedAt = kvs[0].Key, kvs[0].CreateRevision
	}
	return s, nil
}

// find returns the candidate with a key.
func (s standing) find(stored []byte) (candidate, bool) {
	i := slices.IndexFunc(s.candidates, func(c candidate) bool { return string(c.stored) == string(stored) })
	if i < 0 {
		return candidate{}, false
	}
	return s.candidates[i], true
}

// leads reports whether the candidate is the leader: only the put that made it so has touched it.
func (c candidate) leads(s standing) bool { return s.leader > 0 && c.touched == s.leader }

// names reports whether the candidate is the successor whom a leader has named.
func (s standing) names(c candidate) bool {
	return string(s.named) == string(s.ranges.successors.Start)+c.successor
}

// inTurn returns the candidates in the order in which they would lead if none came or left, the
// leader first.
func (s standing) inTurn() []candidate {
	rank := func(c candidate) int {
		switch {
		case c.leads(s):
			return 0
		case s.names(c):
			return 1
		}
		return 2
	}
	out := slices.Clone(s.candidates)
	slices.SortStableFunc(out, func(a, b candidate) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// ahead returns the key that must be gone before it makes sense for a candidate to look again; nil
// if it is its turn. That is the candidate directly before it, or the leader for the first one,
// so that whoever goes wakes one. A named successor waits for the leader alone, and the first one
// for a named successor.
func (s standing) ahead(own candidate) []byte {
	named := s.names(own)
	if i := slices.IndexFunc(s.candidates, func(c candidate) bool { return string(c.stored) == string(own.stored) }); i > 0 && !named {
		return s.candidates[i-1].stored
	}
	switch {
	case s.leader > 0:
		return s.ranges.leader
	case s.named != nil && !named:
		return s.named
	}
	return nil
}
