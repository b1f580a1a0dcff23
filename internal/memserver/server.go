// Package memserver is an etcd of one member in memory, for examples and tests: for
// Example functions, which must run where nothing but Go is installed, and for tests in
// synctest bubbles. What the library does with a real server is tested in
// internal/integration. Only tests import it; it imports the protocol and internal/keys,
// and doesn't know the client.
package memserver

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd/internal/keys"
)

// Server is an etcd of one member in memory, with as much of it as examples need: no
// users, no leases that expire, no range streams. It may be used concurrently, and its
// methods that implement etcd's services may be called directly.
type Server struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedWatchServer

	mu        sync.Mutex // guards what follows
	revision  int64
	compacted int64
	before    map[string]*mvccpb.KeyValue // before the request under way, at revision + 1
	now       map[string]*mvccpb.KeyValue
	events    []*mvccpb.Event // all that ever happened, with the key-values before
	leases    map[int64]int64 // by ID, with the time to live
	changed   chan struct{}   // closed and replaced when the revision grows

	losePut atomic.Bool
}

// New returns a server without keys, at revision 1.
func New() *Server {
	return &Server{
		revision: 1, now: map[string]*mvccpb.KeyValue{}, leases: map[int64]int64{}, changed: make(chan struct{}),
	}
}

// Serve serves s on a port of its own, as often as it is called. The caller calls end
// after its clients are closed.
func (s *Server) Serve() (endpoint string, end func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
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
	return l.Addr().String(), func() {
		srv.Stop()
		<-served
	}, nil
}

// LosePut has the next put executed and its answer lost.
func (s *Server) LosePut() { s.losePut.Store(true) }

// Revision returns the newest revision.
func (s *Server) Revision() int64 { return s.headerNow().Revision }

func (s *Server) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: 1, MemberId: 1, RaftTerm: 1, Revision: s.revision}
}

// do runs one request: what it writes is one revision, or nothing if it fails. It
// returns the header of the answer.
func (s *Server) do(f func() error) (*pb.ResponseHeader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := s.events
	s.before = s.now
	if err := f(); err != nil {
		s.now, s.events = s.before, events
		return nil, err
	}
	if len(s.events) > len(events) {
		s.revision++
		close(s.changed)
		s.changed = make(chan struct{})
	}
	return s.header(), nil
}

// at returns the keys as they were at a revision; 0 means now.
func (s *Server) at(revision int64) map[string]*mvccpb.KeyValue {
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
func (s *Server) Range(_ context.Context, req *pb.RangeRequest) (resp *pb.RangeResponse, err error) {
	_, err = s.do(func() error {
		if req.Revision > 0 && req.Revision < s.compacted {
			return rpctypes.ErrGRPCCompacted
		}
		resp = s.get(req)
		return nil
	})
	return resp, err
}

func (s *Server) get(req *pb.RangeRequest) *pb.RangeResponse {
	found := find(s.at(req.Revision), req.Key, req.RangeEnd)
	found = slices.DeleteFunc(found, func(kv *mvccpb.KeyValue) bool {
		return req.MaxCreateRevision > 0 && kv.CreateRevision > req.MaxCreateRevision
	})
	if req.SortTarget == pb.RangeRequest_CREATE {
		slices.SortFunc(found, func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) })
	}
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
func (s *Server) Put(_ context.Context, req *pb.PutRequest) (resp *pb.PutResponse, err error) {
	header, err := s.do(func() (err error) { resp, err = s.put(req); return err })
	if err != nil {
		return nil, err
	}
	if s.losePut.CompareAndSwap(true, false) {
		return nil, status.Error(codes.Unavailable, "connection lost")
	}
	resp.Header = header
	return resp, nil
}

// headerNow is the header of an answer to a request that is done.
func (s *Server) headerNow() *pb.ResponseHeader {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.header()
}

func (s *Server) put(req *pb.PutRequest) (*pb.PutResponse, error) {
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
func (s *Server) write(kind mvccpb.Event_EventType, kv, before *mvccpb.KeyValue) {
	s.events = append(s.events, &mvccpb.Event{Type: kind, Kv: kv, PrevKv: before})
	if s.now = maps.Clone(s.now); kind == mvccpb.Event_DELETE {
		delete(s.now, string(kv.Key))
	} else {
		s.now[string(kv.Key)] = kv
	}
}

// DeleteRange implements etcd's KV service.
func (s *Server) DeleteRange(_ context.Context, req *pb.DeleteRangeRequest) (resp *pb.DeleteRangeResponse, err error) {
	header, err := s.do(func() error { resp = s.remove(req); return nil })
	resp.Header = header
	return resp, err
}

func (s *Server) remove(req *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
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
func (s *Server) Txn(_ context.Context, req *pb.TxnRequest) (resp *pb.TxnResponse, err error) {
	header, err := s.do(func() (err error) { resp, err = s.txn(req); return err })
	if err != nil {
		return nil, err
	}
	resp.Header = header
	return resp, nil
}

// Compact implements etcd's KV service. What is compacted is kept, and refused.
func (s *Server) Compact(_ context.Context, req *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	header, err := s.do(func() error {
		switch {
		case req.Revision <= s.compacted:
			return rpctypes.ErrGRPCCompacted
		case req.Revision > s.revision:
			return rpctypes.ErrGRPCFutureRev
		}
		s.compacted = req.Revision
		return nil
	})
	return &pb.CompactionResponse{Header: header}, err
}

func (s *Server) txn(req *pb.TxnRequest) (*pb.TxnResponse, error) {
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

// holds reports whether a condition was true, before the request, of all keys that it is
// about. One that is missing has no value, and is 0 in all else.
func (s *Server) holds(c *pb.Compare) bool {
	found := find(s.before, c.Key, c.RangeEnd)
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
func (s *Server) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Header: s.headerNow(), Version: "3.7.0"}, nil
}

// LeaseGrant implements etcd's Lease service.
func (s *Server) LeaseGrant(_ context.Context, req *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	header, err := s.do(func() error { s.leases[req.ID] = req.TTL; return nil })
	return &pb.LeaseGrantResponse{Header: header, ID: req.ID, TTL: req.TTL}, err
}

// LeaseRevoke implements etcd's Lease service.
func (s *Server) LeaseRevoke(_ context.Context, req *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	header, err := s.do(func() error {
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
	return &pb.LeaseRevokeResponse{Header: header}, err
}

// LeaseTimeToLive implements etcd's Lease service.
func (s *Server) LeaseTimeToLive(_ context.Context, req *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
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
func (s *Server) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
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
