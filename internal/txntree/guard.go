package txntree

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// Guards are conditions that hold while what was read is unchanged, each only once. They
// are about revisions, so the server can decide them even if it can't compare values.
type Guards struct {
	Compares []*pb.Compare
	known    map[keys.Span]bool
}

// Unchanged adds the guard of a single key.
func (g *Guards) Unchanged(stored []byte, revision int64) {
	g.add(Unchanged(stored, revision))
}

// NothingNewer adds the condition that no key of a range was created or changed after a
// revision. The server only compares keys that exist; to notice that a key was deleted
// takes the guard of that key.
func (g *Guards) NothingNewer(read *pb.RangeRequest, revision int64) {
	g.add(&pb.Compare{
		Key: read.Key, RangeEnd: read.RangeEnd, Target: pb.Compare_MOD, Result: pb.Compare_LESS,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: revision + 1},
	})
}

// add adds a guard, unless there is one for the same keys.
func (g *Guards) add(compare *pb.Compare) {
	at := keys.SpanOf(keys.Range{Start: compare.Key, End: compare.RangeEnd})
	if g.known[at] {
		return
	}
	if g.known == nil {
		g.known = map[keys.Span]bool{}
	}
	g.known[at] = true
	g.Compares = append(g.Compares, compare)
}

// Unchanged returns the condition that a key as stored has this mod revision; 0 means
// that it is missing.
func Unchanged(stored []byte, revision int64) *pb.Compare {
	return &pb.Compare{
		Key: stored, Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: revision},
	}
}

// CreatedAt returns the condition that a key as stored has this create revision; 0 means that it
// is missing.
func CreatedAt(stored []byte, revision int64) *pb.Compare {
	return &pb.Compare{
		Key: stored, Target: pb.Compare_CREATE, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: revision},
	}
}

// Absent returns the conditions that no key is in any of the ranges.
func Absent(ranges ...keys.Range) []*pb.Compare {
	out := make([]*pb.Compare, len(ranges))
	for i, r := range ranges {
		out[i] = CreatedAt(r.Start, 0)
		out[i].RangeEnd = r.End
	}
	return out
}

// NoneSince returns the condition that no key of a range was created after a revision.
func NoneSince(r keys.Range, revision int64) *pb.Compare {
	return &pb.Compare{
		Key: r.Start, RangeEnd: r.End, Target: pb.Compare_CREATE, Result: pb.Compare_LESS,
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: revision + 1},
	}
}

// AttachedTo returns the condition that a key as stored is attached to a lease.
func AttachedTo(stored []byte, lease int64) *pb.Compare {
	return &pb.Compare{
		Key: stored, Target: pb.Compare_LEASE, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_Lease{Lease: lease},
	}
}

// NoneChangedAt returns the condition that no key of a range was last changed at a revision.
func NoneChangedAt(r keys.Range, revision int64) *pb.Compare {
	return &pb.Compare{
		Key: r.Start, RangeEnd: r.End, Target: pb.Compare_MOD, Result: pb.Compare_NOT_EQUAL,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: revision},
	}
}

// Never returns a condition that never holds: there is no version below 0. It is about a
// key that the transaction reads anyway, so it needs no further permission.
func Never(stored []byte) *pb.Compare {
	return &pb.Compare{
		Key: stored, Target: pb.Compare_VERSION, Result: pb.Compare_LESS,
		TargetUnion: &pb.Compare_Version{Version: 0},
	}
}
