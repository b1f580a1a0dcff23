package etcd_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"slices"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/blueprint-go/etcd"
	"github.com/blueprint-go/etcd/internal/keys"
)

// memServer is an etcd of one member in memory, with as much of it as the examples on the
// package page need: no users, no leases that expire, no compaction, no range streams.
// What the library does with a real one is tested in internal/integration.
type memServer struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedWatchServer

	mu       sync.Mutex // guards what follows
	revision int64
	wrote    bool // the request under way, at revision + 1
	now      map[string]*mvccpb.KeyValue
	events   []*mvccpb.Event // all that ever happened, with the key-values before
	leases   map[int64]int64 // by ID, with the time to live
	changed  chan struct{}   // closed and replaced when the revision grows
}

// exampleClient returns a client of an etcd that belongs to the example, and what ends
// both. A nil cfg means [etcd.DefaultConfig].
func exampleClient(cfg *etcd.Config) (client *etcd.Client, end func()) {
	return exampleServer().client(cfg)
}

func exampleServer() *memServer {
	return &memServer{
		revision: 1, now: map[string]*mvccpb.KeyValue{}, leases: map[int64]int64{}, changed: make(chan struct{}),
	}
}

// client serves s on a port of its own, for one client.
func (s *memServer) client(cfg *etcd.Config) (client *etcd.Client, end func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	srv := grpc.NewServer()
	pb.RegisterKVServer(srv, s)
	pb.RegisterLeaseServer(srv, s)
	pb.RegisterMaintenanceServer(srv, s)
	pb.RegisterWatchServer(srv, s)
	served := make(chan struct{})
	go func() { // ends with srv; end waits for it
		defer close(served)
		_ = srv.Serve(l)
	}()
	if cfg == nil {
		cfg = etcd.DefaultConfig()
	}
	if client, err = etcd.NewClient(cfg.WithEndpoints(l.Addr().String())); err != nil {
		log.Fatal(err)
	}
	return client, func() {
		_ = client.Close()
		srv.Stop()
		<-served
	}
}

func (s *memServer) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 1, MemberId: 1, RaftTerm: 1, Revision: s.revision}
}

// do runs one request: what it writes is one revision.
func (s *memServer) do(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrote = false
	if err := f(); err != nil {
		return err
	}
	if s.wrote {
		s.revision++
		close(s.changed)
		s.changed = make(chan struct{})
	}
	return nil
}

// at returns the keys as they were at a revision; 0 means now.
func (s *memServer) at(revision int64) map[string]*mvccpb.KeyValue {
	if revision == 0 || revision >= s.revision {
		return s.now
	}
	then := map[string]*mvccpb.KeyValue{}
	for _, e := range s.events {
		switch {
		case e.Kv.ModRevision > revision:
			return then
		case e.Type == mvccpb.Event_DELETE:
			delete(then, string(e.Kv.Key))
		default:
			then[string(e.Kv.Key)] = e.Kv
		}
	}
	return then
}

// find returns the key-values of a range, in the order of the keys.
func find(all map[string]*mvccpb.KeyValue, key, end []byte) []*mvccpb.KeyValue {
	rng := keys.Range{Start: key, End: end}
	if len(end) == 0 {
		rng.End = nil
	}
	var out []*mvccpb.KeyValue
	for _, kv := range all {
		if rng.Contains(kv.Key) {
			out = append(out, kv)
		}
	}
	slices.SortFunc(out, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	return out
}

// Range implements etcd's KV service.
func (s *memServer) Range(_ context.Context, req *pb.RangeRequest) (resp *pb.RangeResponse, err error) {
	err = s.do(func() error { resp = s.get(req); return nil })
	return resp, err
}

func (s *memServer) get(req *pb.RangeRequest) *pb.RangeResponse {
	found := find(s.at(req.Revision), req.Key, req.RangeEnd)
	if req.SortOrder == pb.RangeRequest_DESCEND {
		slices.Reverse(found)
	}
	resp := &pb.RangeResponse{Header: s.header(), Count: int64(len(found))}
	if req.Limit > 0 && int64(len(found)) > req.Limit {
		found, resp.More = found[:req.Limit], true
	}
	if req.CountOnly {
		return resp
	}
	for _, kv := range found {
		out := &mvccpb.KeyValue{
			Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
			Version: kv.Version, Lease: kv.Lease,
		}
		if req.KeysOnly {
			out.Value = nil
		}
		resp.Kvs = append(resp.Kvs, out)
	}
	return resp
}

// Put implements etcd's KV service.
func (s *memServer) Put(_ context.Context, req *pb.PutRequest) (resp *pb.PutResponse, err error) {
	err = s.do(func() (err error) { resp, err = s.put(req); return err })
	if err == nil {
		resp.Header = s.headerNow()
	}
	return resp, err
}

// headerNow is the header of an answer to a request that is done.
func (s *memServer) headerNow() *pb.ResponseHeader {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.header()
}

func (s *memServer) put(req *pb.PutRequest) (*pb.PutResponse, error) {
	if _, ok := s.leases[req.Lease]; req.Lease != 0 && !ok {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	before := s.now[string(req.Key)]
	kv := &mvccpb.KeyValue{
		Key: req.Key, Value: req.Value, Lease: req.Lease,
		CreateRevision: s.revision + 1, ModRevision: s.revision + 1, Version: 1,
	}
	if before != nil {
		kv.CreateRevision, kv.Version = before.CreateRevision, before.Version+1
		if req.IgnoreLease {
			kv.Lease = before.Lease
		}
	}
	s.write(mvccpb.Event_PUT, kv, before)
	resp := &pb.PutResponse{Header: s.header()}
	if req.PrevKv {
		resp.PrevKv = before
	}
	return resp, nil
}

// write makes a change part of the request under way.
func (s *memServer) write(kind mvccpb.Event_EventType, kv, before *mvccpb.KeyValue) {
	s.wrote = true
	s.events = append(s.events, &mvccpb.Event{Type: kind, Kv: kv, PrevKv: before})
	if s.now = maps.Clone(s.now); kind == mvccpb.Event_DELETE {
		delete(s.now, string(kv.Key))
	} else {
		s.now[string(kv.Key)] = kv
	}
}

// DeleteRange implements etcd's KV service.
func (s *memServer) DeleteRange(_ context.Context, req *pb.DeleteRangeRequest) (resp *pb.DeleteRangeResponse, err error) {
	err = s.do(func() error { resp = s.remove(req); return nil })
	resp.Header = s.headerNow()
	return resp, err
}

func (s *memServer) remove(req *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	resp := &pb.DeleteRangeResponse{Header: s.header()}
	for _, kv := range find(s.now, req.Key, req.RangeEnd) {
		s.write(mvccpb.Event_DELETE, &mvccpb.KeyValue{Key: kv.Key, ModRevision: s.revision + 1}, kv)
		resp.Deleted++
		if req.PrevKv {
			resp.PrevKvs = append(resp.PrevKvs, kv)
		}
	}
	return resp
}

// Txn implements etcd's KV service.
func (s *memServer) Txn(_ context.Context, req *pb.TxnRequest) (resp *pb.TxnResponse, err error) {
	err = s.do(func() (err error) { resp, err = s.txn(req); return err })
	if err == nil {
		resp.Header = s.headerNow()
	}
	return resp, err
}

func (s *memServer) txn(req *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp := &pb.TxnResponse{Header: s.header(), Succeeded: !slices.ContainsFunc(req.Compare, func(c *pb.Compare) bool { return !s.holds(c) })}
	ops := req.Failure
	if resp.Succeeded {
		ops = req.Success
	}
	for _, op := range ops {
		out := &pb.ResponseOp{}
		switch op := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			out.Response = &pb.ResponseOp_ResponseRange{ResponseRange: s.get(op.RequestRange)}
		case *pb.RequestOp_RequestDeleteRange:
			out.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: s.remove(op.RequestDeleteRange)}
		case *pb.RequestOp_RequestPut:
			put, err := s.put(op.RequestPut)
			if err != nil {
				return nil, err
			}
			out.Response = &pb.ResponseOp_ResponsePut{ResponsePut: put}
		case *pb.RequestOp_RequestTxn:
			inner, err := s.txn(op.RequestTxn)
			if err != nil {
				return nil, err
			}
			out.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: inner}
		}
		resp.Responses = append(resp.Responses, out)
	}
	return resp, nil
}

// holds reports whether a condition is true of all keys that it is about. One that is
// missing has no value, and is 0 in all else.
func (s *memServer) holds(c *pb.Compare) bool {
	found := find(s.now, c.Key, c.RangeEnd)
	if len(found) == 0 {
		if c.Target == pb.Compare_VALUE {
			return false
		}
		found = append(found, &mvccpb.KeyValue{})
	}
	return !slices.ContainsFunc(found, func(kv *mvccpb.KeyValue) bool { return !compares(c, kv) })
}

func compares(c *pb.Compare, kv *mvccpb.KeyValue) bool {
	order := 0
	switch c.Target {
	case pb.Compare_VALUE:
		order = bytes.Compare(kv.Value, c.GetValue())
	case pb.Compare_CREATE:
		order = cmp.Compare(kv.CreateRevision, c.GetCreateRevision())
	case pb.Compare_MOD:
		order = cmp.Compare(kv.ModRevision, c.GetModRevision())
	case pb.Compare_VERSION:
		order = cmp.Compare(kv.Version, c.GetVersion())
	case pb.Compare_LEASE:
		order = cmp.Compare(kv.Lease, c.GetLease())
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return order == 0
	case pb.Compare_NOT_EQUAL:
		return order != 0
	case pb.Compare_GREATER:
		return order > 0
	default:
		return order < 0
	}
}

// Status implements etcd's Maintenance service.
func (s *memServer) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Header: s.headerNow(), Version: "3.7.0"}, nil
}

// LeaseGrant implements etcd's Lease service.
func (s *memServer) LeaseGrant(_ context.Context, req *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	err := s.do(func() error { s.leases[req.ID] = req.TTL; return nil })
	return &pb.LeaseGrantResponse{Header: s.headerNow(), ID: req.ID, TTL: req.TTL}, err
}

// LeaseRevoke implements etcd's Lease service.
func (s *memServer) LeaseRevoke(_ context.Context, req *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	err := s.do(func() error {
		if _, ok := s.leases[req.ID]; !ok {
			return rpctypes.ErrGRPCLeaseNotFound
		}
		delete(s.leases, req.ID)
		for _, kv := range find(s.now, []byte{0}, keys.ToTheEnd) {
			if kv.Lease == req.ID {
				s.remove(&pb.DeleteRangeRequest{Key: kv.Key})
			}
		}
		return nil
	})
	return &pb.LeaseRevokeResponse{Header: s.headerNow()}, err
}

// LeaseTimeToLive implements etcd's Lease service.
func (s *memServer) LeaseTimeToLive(_ context.Context, req *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &pb.LeaseTimeToLiveResponse{Header: s.header(), ID: req.ID, TTL: -1}
	if ttl, ok := s.leases[req.ID]; ok {
		resp.TTL, resp.GrantedTTL = ttl, ttl
	}
	for _, kv := range find(s.now, []byte{0}, keys.ToTheEnd) {
		if kv.Lease == req.ID && req.Keys {
			resp.Keys = append(resp.Keys, kv.Key)
		}
	}
	return resp, nil
}

// LeaseKeepAlive implements etcd's Lease service.
func (s *memServer) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return ignoreEOF(err)
		}
		s.mu.Lock()
		resp := &pb.LeaseKeepAliveResponse{Header: s.header(), ID: req.ID, TTL: s.leases[req.ID]}
		s.mu.Unlock()
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// memWatch is one watch on a stream.
type memWatch struct {
	req  *pb.WatchCreateRequest
	next int // of events
}

// Watch implements etcd's Watch service.
func (s *memServer) Watch(stream pb.Watch_WatchServer) error {
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
func (s *memServer) manage(stream pb.Watch_WatchServer, watches map[int64]*memWatch, req *pb.WatchRequest) error {
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
		header := s.header()
		s.mu.Unlock()
		watches[w.req.WatchId] = w
		return stream.Send(&pb.WatchResponse{Header: header, WatchId: w.req.WatchId, Created: true})
	case *pb.WatchRequest_CancelRequest:
		delete(watches, req.CancelRequest.WatchId)
		return stream.Send(&pb.WatchResponse{Header: s.headerNow(), WatchId: req.CancelRequest.WatchId, Canceled: true})
	case *pb.WatchRequest_ProgressRequest:
		return stream.Send(&pb.WatchResponse{Header: s.headerNow(), WatchId: -1})
	}
	return fmt.Errorf("unknown request %T", req.RequestUnion)
}

// news returns what has happened to the keys of a watch since it was last told.
func (s *memServer) news(w *memWatch) *pb.WatchResponse {
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
