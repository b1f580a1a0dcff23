package etcd

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// guards are conditions under which what was read is still so, each once. They are
// about revisions, so that the server can decide them where it can't compare values.
type guards struct {
	compares []*pb.Compare
	known    map[keys.Span]bool
}

// unchanged adds the guard of a key.
func (g *guards) unchanged(stored []byte, revision int64) {
	g.add(guard(stored, revision))
}

// nothingNewer adds the condition that no key of a range was created or changed
// after a revision. The server compares the keys that are there: that one was
// deleted only the guard of that key notices.
func (g *guards) nothingNewer(read *pb.RangeRequest, revision int64) {
	g.add(&pb.Compare{
		Key: read.Key, RangeEnd: read.RangeEnd, Target: pb.Compare_MOD, Result: pb.Compare_LESS,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: revision + 1},
	})
}

// add adds a guard, unless there is one for the same keys.
func (g *guards) add(compare *pb.Compare) {
	at := keys.SpanOf(keys.Range{Start: compare.Key, End: compare.RangeEnd})
	if g.known[at] {
		return
	}
	if g.known == nil {
		g.known = map[keys.Span]bool{}
	}
	g.known[at] = true
	g.compares = append(g.compares, compare)
}

// guard returns the condition that a key as stored has this mod revision; 0 means
// that it is missing.
func guard(stored []byte, revision int64) *pb.Compare {
	return &pb.Compare{
		Key: stored, Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: revision},
	}
}

// never returns a condition that does not hold: there is no version below 0. It is
// about a key that the transaction reads anyway, so that it takes no permission.
func never(stored []byte) *pb.Compare {
	return &pb.Compare{
		Key: stored, Target: pb.Compare_VERSION, Result: pb.Compare_LESS,
		TargetUnion: &pb.Compare_Version{Version: 0},
	}
}
