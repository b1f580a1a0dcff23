package etcd

import (
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// A stream may go silent although its connection is fine: a member hangs, or a proxy has
// lost the other half. Its watches would wait for ever. So a stream on which nothing has
// come for half of RequestTimeout registers one more watch, which every server and proxy
// must answer, and progress need not be: it is left out while a watch on the stream
// catches up. Without an answer in the other half, the watches go elsewhere.

// errUnansweredProbe ends a stream whose server has stopped answering.
var errUnansweredProbe = &judgedError{
	rpc.Verdict{Kind: ErrUnavailable, Remedy: rpc.RetryRead},
	errs.WithDetail(ErrUnavailable, errors.New("no answer on a watch stream")),
}

// probe is a watch that is registered only to be answered. It gets no events.
type probe struct{ of watchConsumer }

func (probe) position() (start int64, fragment bool) { return 0, false }

func (probe) wantsProgress() bool { return false }

func (probe) buffer() int { return watchQueueBytes }

// request asks for what a watch of the stream asks for, which its user may read.
func (p probe) request() *pb.WatchCreateRequest {
	req := p.of.request()
	return &pb.WatchCreateRequest{
		Key: req.Key, RangeEnd: req.RangeEnd,
		Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE},
	}
}

func (probe) signal() {}

// isDead reports whether the stream gets no answer, and probes it if it is silent. A stream
// that waits for its consumer is not at fault.
func (s *watchStream) isDead(now time.Time) bool {
	half := s.hub.conn.cfg.RequestTimeout / 2
	switch {
	case s.full || len(s.byID) == 0 || now.Sub(s.heard) < half:
		return false
	case s.probe != nil && s.probedAt.After(s.heard):
		return now.Sub(s.probedAt) >= half
	}
	for _, r := range s.byID {
		// No watch waits for it, so its registration ends when it is answered.
		s.probe, s.probedAt = &registration{consumer: probe{r.consumer}, stream: s, left: true}, now
		s.waiting = append(s.waiting, s.probe)
		break
	}
	return false
}

// probed tells watches that begin with the next revision that they have seen everything. A
// server reports no progress on their stream until something is written.
func (s *watchStream) probed(revision int64) {
	for _, r := range s.byID {
		if r.progress && r.start == revision+1 {
			r.tell(revision)
		}
	}
}
