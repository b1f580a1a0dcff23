package txntree

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// Guards are conditions under which what was read is still so, each once. They are
// about revisions, so that the server can decide them where it can't compare values.
type Guards struct {
	Compares []*pb.Compare
	known    map[keys.Span]bool
}

// Unchanged adds the guard of a key.
func (g *Guards) Unchanged(stored []byte, revision int64) {
	g.add(Unchanged(stored, revision))
}

// NothingNewer adds the condition that no key of a range was created or changed
// after a revision. The server compares the keys that are there: that one was
// deleted only the guard of that key notices.
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

// Never returns a condition that does not hold: there is no version below 0. It is
// about a key that the transaction reads anyway, so that it takes no permission.
func Never(stored []byte) *pb.Compare {
	return &pb.Compare{
		Key: stored, Target: pb.Compare_VERSION, Result: pb.Compare_LESS,
		TargetUnion: &pb.Compare_Version{Version: 0},
	}
}
