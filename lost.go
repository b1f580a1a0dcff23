package etcd

import (
	"bytes"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// lose returns what is kept of a request whose answer was lost. The values are copied:
// the caller's buffers are the caller's again.
func (c *conn) lose(in any, seals *sealedPut) *lostWrite {
	out := &lostWrite{witnesses: witnesses(in, seals), mark: c.rpc.Seen.Mark()}
	for i := range out.witnesses {
		out.witnesses[i].stored = bytes.Clone(out.witnesses[i].stored)
	}
	return out
}

func witnesses(request any, seals *sealedPut) []witness {
	switch req := request.(type) {
	case *pb.PutRequest:
		return []witness{putWitness(req, seals)}
	case *pb.TxnRequest:
		var since map[string]int64
		if !changes(req.Failure) {
			since = boundTo(req.Compare)
		}
		all := branch(branch(nil, req.Success, since, seals), req.Failure, nil, seals)
		return all[:min(len(all), maxWitnesses)]
	}
	return nil
}

func putWitness(put *pb.PutRequest, seals *sealedPut) witness {
	return witness{
		key: put.Key, stored: put.Value, earlier: seals.earlierOf(put),
		lease: put.Lease, keepsLease: put.IgnoreLease,
	}
}

// changes reports whether any of the operations is more than a read.
func changes(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		txn := op.GetRequestTxn()
		if txn == nil && op.GetRequestRange() == nil || changes(txn.GetSuccess()) || changes(txn.GetFailure()) {
			return true
		}
	}
	return false
}

// boundTo returns the mod revisions that compares demand of keys that exist.
func boundTo(compares []*pb.Compare) map[string]int64 {
	out := map[string]int64{}
	for _, cmp := range compares {
		if cmp.Target == pb.Compare_MOD && cmp.Result == pb.Compare_EQUAL && cmp.RangeEnd == nil {
			out[string(cmp.Key)] = cmp.GetModRevision()
		}
	}
	return out
}

// branch appends the witnesses of a branch of a transaction: its first put, which can
// prove that it was applied, its first bound change, which can prove that it was not,
// and those of the transactions in it.
func branch(out []witness, ops []*pb.RequestOp, since map[string]int64, seals *sealedPut) []witness {
	var put, bound *witness
	for _, op := range ops {
		var w witness
		switch r := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			w = putWitness(r.RequestPut, seals)
		case *pb.RequestOp_RequestDeleteRange:
			w = witness{key: r.RequestDeleteRange.Key, deletes: true}
		case *pb.RequestOp_RequestTxn:
			if len(out) < maxWitnesses {
				out = branch(branch(out, r.RequestTxn.Success, nil, seals), r.RequestTxn.Failure, nil, seals)
			}
			continue
		default:
			continue
		}
		w.since = since[string(w.key)]
		if put == nil && !w.deletes {
			put = &w
		}
		if bound == nil && w.since > 0 {
			bound = &w
		}
	}
	if put != nil {
		out = append(out, *put)
	}
	if bound != nil && bound != put {
		out = append(out, *bound)
	}
	return out
}

// maxWitnesses bounds what is asked about one write. A branch of a transaction is
// applied as a whole, so that one key speaks for it.
const maxWitnesses = 8
