package memserver

import (
	"fmt"
	"maps"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// memWatch is one watch on a stream.
type memWatch struct {
	req  *pb.WatchCreateRequest
	next int // of events
}

// Watch implements etcd's Watch service.
func (s *Server) Watch(stream pb.Watch_WatchServer) error {
	requests := make(chan *pb.WatchRequest)
	go func() { // ends with the stream
		defer close(requests)
		for {
			req, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- req:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	watches := map[int64]*memWatch{}
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		for _, id := range slices.Sorted(maps.Keys(watches)) {
			if resp := s.news(watches[id]); len(resp.Events) > 0 {
				if err := stream.Send(resp); err != nil {
					return err
				}
			}
		}
		select {
		case req, ok := <-requests:
			if !ok {
				return nil
			}
			if err := s.manage(stream, watches, req); err != nil {
				return err
			}
		case <-changed:
		}
	}
}

// manage carries out a request on a stream.
func (s *Server) manage(stream pb.Watch_WatchServer, watches map[int64]*memWatch, req *pb.WatchRequest) error {
	switch req := req.RequestUnion.(type) {
	case *pb.WatchRequest_CreateRequest:
		s.mu.Lock()
		w := &memWatch{req: req.CreateRequest, next: len(s.events)}
		if from := w.req.StartRevision; from > 0 {
			w.next = slices.IndexFunc(s.events, func(e *mvccpb.Event) bool { return e.Kv.ModRevision >= from })
			if w.next < 0 {
				w.next = len(s.events)
			}
		}
		header, compacted := s.header(), s.compacted
		s.mu.Unlock()
		if err := stream.Send(&pb.WatchResponse{Header: header, WatchId: w.req.WatchId, Created: true}); err != nil {
			return err
		}
		if w.req.StartRevision > 0 && w.req.StartRevision < compacted {
			return stream.Send(&pb.WatchResponse{Header: header, WatchId: w.req.WatchId, Canceled: true, CompactRevision: compacted})
		}
		watches[w.req.WatchId] = w
		return nil
	case *pb.WatchRequest_CancelRequest:
		delete(watches, req.CancelRequest.WatchId)
		return stream.Send(&pb.WatchResponse{Header: s.headerNow(), WatchId: req.CancelRequest.WatchId, Canceled: true})
	case *pb.WatchRequest_ProgressRequest:
		return stream.Send(&pb.WatchResponse{Header: s.headerNow(), WatchId: -1})
	}
	return fmt.Errorf("unknown request %T", req.RequestUnion)
}

// news returns what has happened to the keys of a watch since it was last told.
func (s *Server) news(w *memWatch) *pb.WatchResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &pb.WatchResponse{Header: s.header(), WatchId: w.req.WatchId}
	for ; w.next < len(s.events); w.next++ {
		e := s.events[w.next]
		rng := keys.Range{Start: w.req.Key, End: w.req.RangeEnd}
		if len(rng.End) == 0 {
			rng.End = nil
		}
		if !rng.Contains(e.Kv.Key) || slices.Contains(w.req.Filters, pb.WatchCreateRequest_FilterType(e.Type)) {
			continue
		}
		if !w.req.PrevKv {
			e = &mvccpb.Event{Type: e.Type, Kv: e.Kv}
		}
		resp.Events = append(resp.Events, e)
	}
	return resp
}
