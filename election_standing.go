package etcd

import (
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/txntree"
)

// reads returns the operations that read how the election stands.
func (r electionRanges) reads() []*pb.RequestOp {
	return []*pb.RequestOp{
		txntree.Range(&pb.RangeRequest{Key: r.leader, KeysOnly: true}),
		txntree.Range(&pb.RangeRequest{Key: r.candidates.Start, RangeEnd: r.candidates.End, KeysOnly: true}),
		txntree.Range(&pb.RangeRequest{Key: r.successors.Start, RangeEnd: r.successors.End, KeysOnly: true}),
	}
}

// standing is how an election stands at a revision.
type standing struct {
	ranges     electionRanges
	revision   int64
	leader     int64 // the create revision of the leader's key; 0 if nobody leads
	candidates []candidate
	named      []byte      // the key that names a successor; nil if there is none
	namedAt    int64       // its create revision
	beside     secondQueue // if a look has read that too
}

// standingOf evaluates the answers to reads.
func (r electionRanges) standingOf(answers []*pb.ResponseOp, revision int64) (standing, error) {
	if len(answers) != 3 {
		return standing{}, errIncomplete
	}
	s := standing{ranges: r, revision: revision, candidates: r.inOrder(answers[1].GetResponseRange().GetKvs())}
	if kvs := answers[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		s.leader = kvs[0].CreateRevision
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

// ahead returns the key that must be gone before it makes sense for a candidate to look again; nil
// if it is its turn. That is the candidate directly before it, or the leader for the first one,
// so that whoever goes wakes one. A named successor waits for the leader alone, and the first one
// for a named successor.
func (s standing) ahead(own candidate) []byte {
	named := string(s.named) == string(s.ranges.successors.Start)+own.successor
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
