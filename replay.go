package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// Some proxies send a request again when they have lost its answer, and pass on the
// answer to the second: "the conditions don't hold", because of what the first has done.
// An encrypted value is unique, so it proves that the first was applied.

// maxReplayReads bounds the reads that look for an earlier application of a transaction.
const maxReplayReads = 16

var errReplayed = errors.New("the transaction was applied and its answer lost: something on the way has sent it again")

// replay looks for what a request did before it was answered.
type replay struct {
	client  *Client
	request request
	// floor is a revision from before the request.
	floor int64
	// mine holds, for each revision examined, whether the request made it.
	mine map[int64]bool
}

// amend replaces the answer to a transaction whose conditions don't hold by that of its
// first application, if there is proof of one, and likewise for the transactions in it.
func (r *replay) amend(ctx context.Context, req *pb.TxnRequest, resp *pb.TxnResponse) error {
	if !resp.Succeeded && len(req.Compare) > 0 && !changes(req.Failure) {
		revision, err := r.revisionOf(ctx, req, resp)
		if err == nil && revision > 0 {
			resp.Succeeded = true
			if resp.Header != nil {
				resp.Header.Revision = revision
			}
			resp.Responses, err = r.answer(ctx, req.Success, revision)
		}
		return err
	}
	ops := req.Failure
	if resp.Succeeded {
		ops = req.Success
	}
	for i, op := range ops {
		if txn := op.GetRequestTxn(); txn != nil {
			if err := r.amend(ctx, txn, resp.Responses[i].GetResponseTxn()); err != nil {
				return err
			}
		}
	}
	return nil
}

// revisionOf returns the revision at which a transaction was applied before; 0 if it was
// not, or if that can't be known.
func (r *replay) revisionOf(ctx context.Context, req *pb.TxnRequest, resp *pb.TxnResponse) (int64, error) {
	bound := boundTo(req.Compare)
	w, ok := r.client.proof(req.Success, bound, r.request.seals)
	if !ok {
		return 0, nil
	}
	since, isBound := bound[string(w.key)]
	s := search{replay: r, witness: w, floor: max(r.floor, since)}
	switch {
	case isBound && since == 0:
		s.version = 1
	case isBound && r.request.versions != nil:
		if before := r.request.versions(w.key); before > 0 {
			s.version = before + 1
		}
	}
	newest, told := newestOf(w.key, req, resp)
	if !told {
		var err error
		if newest, err = r.at(ctx, w.key, 0); err != nil {
			return 0, err
		}
	}
	return s.run(ctx, newest, since)
}

// proof returns a put that can prove that it was applied, preferably one of a key that
// the transaction is bound to.
func (c *Client) proof(ops []*pb.RequestOp, bound map[string]int64, seals *sealedPut) (out witness, ok bool) {
	for _, op := range ops {
		if put := op.GetRequestPut(); put != nil && c.codec.unique(put.Key, put.Value) {
			if _, best := bound[string(put.Key)]; best || !ok {
				out, ok = putWitness(put, seals), true
				if best {
					return out, true
				}
			}
		}
	}
	for i := 0; i < len(ops) && !ok; i++ {
		if txn := ops[i].GetRequestTxn(); txn != nil {
			if out, ok = c.proof(txn.Success, nil, seals); !ok {
				out, ok = c.proof(txn.Failure, nil, seals)
			}
		}
	}
	return out, ok
}

// newestOf returns the newest key-value of key in the answer, nil if the key is missing,
// and whether the answer holds that.
func newestOf(key []byte, req *pb.TxnRequest, resp *pb.TxnResponse) (*mvccpb.KeyValue, bool) {
	for i, op := range req.Failure {
		read := op.GetRequestRange()
		if read == nil || read.CountOnly || read.Revision != 0 || !(keys.Range{Start: read.Key, End: read.RangeEnd}).Contains(key) {
			continue
		}
		found := resp.Responses[i].GetResponseRange()
		for _, kv := range found.Kvs {
			if string(kv.Key) == string(key) {
				return kv, true
			}
		}
		if !found.More {
			return nil, true
		}
	}
	return nil, false
}

// search is the search for the version of a key that a witness would have made.
type search struct {
	*replay
	witness witness
	floor   int64
	version int64 // the version it would be; 0 if that is not known
}

// run goes back from the newest version of a key to the one it looks for. after is a
// revision before that.
func (s *search) run(ctx context.Context, kv *mvccpb.KeyValue, after int64) (int64, error) {
	for range maxReplayReads {
		switch {
		case kv == nil, kv.ModRevision <= s.floor, kv.Version < s.version, after > 0 && kv.CreateRevision > after:
			return 0, nil // or the key was deleted since
		case s.version == 0 || kv.Version == s.version:
			if mine, err := s.isMine(ctx, kv); err != nil || mine {
				return kv.ModRevision, err
			}
			if kv.Version == max(s.version, 1) {
				return 0, nil
			}
		}
		if s.version > 1 && after+1 >= kv.ModRevision {
			return 0, nil
		}
		at := s.guess(kv, after)
		before, err := s.at(ctx, s.witness.key, at)
		switch {
		case err != nil:
			return 0, err
		case before != nil && s.version > 1 && before.Version < s.version:
			after = at
		default:
			kv = before
		}
	}
	return 0, nil
}

// guess returns the revision at which to look for the version, before kv and after a
// revision, as if the key had changed at an even rate.
func (s *search) guess(kv *mvccpb.KeyValue, after int64) int64 {
	switch s.version {
	case 0:
		return kv.ModRevision - 1
	case 1:
		return kv.CreateRevision
	}
	step := (kv.ModRevision - after) / (kv.Version - s.version + 1)
	return min(after+max(step, 1), kv.ModRevision-1)
}

// isMine reports whether the request made a version of a key.
func (s *search) isMine(ctx context.Context, kv *mvccpb.KeyValue) (bool, error) {
	mine, known := s.mine[kv.ModRevision]
	if known {
		return mine, nil
	}
	if len(kv.Value) == 0 { // no encrypted value is empty: only the key was read
		var err error
		if kv, err = s.at(ctx, s.witness.key, kv.ModRevision); kv == nil {
			return false, err
		}
	}
	mine = s.witness.wrote(kv.Value)
	if s.mine == nil {
		s.mine = map[int64]bool{}
	}
	s.mine[kv.ModRevision] = mine
	return mine, nil
}

// at returns a key-value as of a revision; nil if it was missing then, or can't be read.
func (r *replay) at(ctx context.Context, key []byte, revision int64) (*mvccpb.KeyValue, error) {
	resp, err := r.read(ctx, &pb.RangeRequest{Key: key, Revision: revision})
	if len(resp.GetKvs()) == 0 {
		return nil, err
	}
	return resp.Kvs[0], nil
}

// read reads as of a revision. It returns nil for what is compacted or may not be read.
func (r *replay) read(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	c := r.client
	resp, err := do(ctx, c.conn, request{op: r.request.op, key: r.request.key, pinned: req.Revision > 0}, c.rpc.Get, req)
	if errors.Is(err, ErrCompacted) || errors.Is(err, ErrPermissionDenied) {
		return nil, nil
	}
	return resp, err
}

// answer returns the responses to operations applied at a revision.
func (r *replay) answer(ctx context.Context, ops []*pb.RequestOp, revision int64) ([]*pb.ResponseOp, error) {
	out := make([]*pb.ResponseOp, len(ops))
	for i, op := range ops {
		out[i] = &pb.ResponseOp{}
		switch o := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			put := &pb.PutResponse{}
			if o.RequestPut.PrevKv {
				var err error
				if put.PrevKv, err = r.at(ctx, o.RequestPut.Key, revision-1); err != nil {
					return nil, err
				}
			}
			out[i].Response = &pb.ResponseOp_ResponsePut{ResponsePut: put}
		case *pb.RequestOp_RequestDeleteRange:
			del := o.RequestDeleteRange
			found, err := r.read(ctx, &pb.RangeRequest{Key: del.Key, RangeEnd: del.RangeEnd, Revision: revision - 1, CountOnly: !del.PrevKv})
			if err != nil {
				return nil, err
			}
			if found == nil {
				return nil, errReplayed
			}
			out[i].Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{Deleted: found.Count, PrevKvs: found.Kvs}}
		case *pb.RequestOp_RequestTxn:
			if len(o.RequestTxn.Compare) > 0 {
				return nil, errReplayed
			}
			inner, err := r.answer(ctx, o.RequestTxn.Success, revision)
			if err != nil {
				return nil, err
			}
			out[i].Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{Succeeded: true, Responses: inner}}
		default:
			return nil, errReplayed // nobody knows any more what a read in it has seen
		}
	}
	return out, nil
}

// unreplayed returns the first answer to a transaction that writes.
func (c *Client) unreplayed(ctx context.Context, r request, req *pb.TxnRequest, resp *pb.TxnResponse, from rpc.Mark) (*pb.TxnResponse, error) {
	p := replay{client: c, request: r, floor: from.Revision}
	if !from.Precedes(resp.Header) {
		c.rpc.Seen.Regress(resp.Header)
		p.floor = 0
	}
	err := p.amend(ctx, req, resp)
	if err == nil {
		return resp, nil
	}
	if errors.Is(err, errReplayed) {
		err = errs.WithKind(ErrUnavailable, err)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		err = e.Err
	}
	failed := r.unsettled(err)
	failed.lost = c.lose(req, r.seals)
	return nil, failed
}
