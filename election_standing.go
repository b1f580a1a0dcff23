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

// read returns the operation that reads how the election stands, with the leases only if one of
// its keys has none: then they tell which are none of an election.
func (r electionRanges) read() *pb.RequestOp {
	bound := &pb.Compare{
		Key: r.all.Start, RangeEnd: r.all.End, Target: pb.Compare_LEASE, Result: pb.Compare_GREATER,
		TargetUnion: &pb.Compare_Lease{Lease: 0},
	}
	return txntree.Txn(&pb.TxnRequest{Compare: []*pb.Compare{bound}, Success: r.reads(true), Failure: r.reads(false)})
}

// standing is how an election stands at a revision.
type standing struct {
	ranges     electionRanges
	revision   int64
	leader     *mvccpb.KeyValue // the leader's key; nil if nobody leads
	candidates []candidate
	named      []byte      // the key that names a candidate the successor; nil if there is none
	namedAt    int64       // its create revision
	foreign    []byte      // a key that would be in the way for good, as it has no lease; nil for none
	beside     secondQueue // if a look has read that too
}

// standingOf evaluates the answer to read.
func (r electionRanges) standingOf(answers []*pb.ResponseOp, revision int64) (standing, error) {
	if len(answers) != 1 {
		return standing{}, errIncomplete
	}
	txn := answers[0].GetResponseTxn()
	return r.standingAt(revision, txn.GetResponses(), !txn.GetSucceeded())
}

// standingAt evaluates the answers to reads. Which keys have no lease is only known if the reads
// told leases; otherwise all of them count as having one.
func (r electionRanges) standingAt(revision int64, answers []*pb.ResponseOp, leases bool) (standing, error) {
	if len(answers) != 3 {
		return standing{}, errIncomplete
	}
	found := func(i int) []*mvccpb.KeyValue { return answers[i].GetResponseRange().GetKvs() }
	unbound := func(kv *mvccpb.KeyValue) bool { return leases && kv.Lease == 0 }
	s := standing{ranges: r, revision: revision, candidates: r.inOrder(without(found(1), unbound))}
	for _, kv := range found(2) {
		switch {
		case slices.ContainsFunc(s.candidates, func(c candidate) bool { return r.successorKey(c) == string(kv.Key) }):
			if s.named == nil || kv.CreateRevision < s.namedAt {
				s.named, s.namedAt = kv.Key, kv.CreateRevision
			}
		case unbound(kv):
			s.foreign = kv.Key
		} // or it is that of one who is no candidate any more, and goes with its lease
	}
	for _, kv := range found(0) {
		if unbound(kv) {
			s.foreign = kv.Key
			break
		}
		s.leader = kv
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

// token returns the token of the leader; 0 if nobody leads.
func (s standing) token() int64 { return s.leader.GetCreateRevision() }

// leads reports whether the candidate is the leader: only the put that made it so has touched it.
func (c candidate) leads(s standing) bool { return s.leader != nil && c.touched == s.token() }

// names reports whether the candidate is the successor whom a leader has named.
func (s standing) names(c candidate) bool {
	return string(s.named) == s.ranges.successorKey(c)
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
	case s.leader != nil:
		return s.ranges.leader
	case s.named != nil && !named:
		return s.named
	}
	return nil
}
