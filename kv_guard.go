package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/rpc"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// guardedPut is a put WithGuard.
type guardedPut struct {
	client *Client
	key    string
	put    *pb.PutRequest
	sealed *sealedPut // nil without encryption
	write  writeOptions
}

func (c *Client) putGuarded(ctx context.Context, key string, value []byte, o putOptions) error {
	o.guarded = false
	req, sealed, err := c.putRequest(ctx, key, value, o)
	if err != nil {
		return fail("put", key, err)
	}
	p := &guardedPut{client: c, key: key, put: req, sealed: sealed, write: o.writeOptions}
	if err := c.rpc.CheckSize(p.boundTo(1)); err != nil {
		return fail("put", key, err)
	}
	return c.untilUncontested(ctx, request{op: "put", key: key}, func(ctx context.Context) (bool, error) {
		found, err := do(ctx, c.conn, request{op: "put", key: key}, c.rpc.Get, p.read())
		if err != nil {
			return false, err
		}
		kvs := found.Kvs
		for n := range triesPerRound {
			stored, now, err := p.try(ctx, kvs)
			if stored {
				return true, err
			}
			if err != nil {
				return false, afterConflicts(ctx, n, err)
			}
			kvs = now
		}
		return false, nil
	})
}

func (p *guardedPut) read() *pb.RangeRequest { return &pb.RangeRequest{Key: p.put.Key, KeysOnly: true} }

func modRevisionOf(kvs []*mvccpb.KeyValue) int64 {
	if len(kvs) == 0 {
		return 0
	}
	return kvs[0].ModRevision
}

// boundTo returns the put on condition that the key has this mod revision; 0 means that
// the key is missing.
func (p *guardedPut) boundTo(revision int64) *pb.TxnRequest {
	return &pb.TxnRequest{
		Compare: []*pb.Compare{txntree.Unchanged(p.put.Key, revision)},
		Success: []*pb.RequestOp{txntree.Put(p.put)},
		Failure: []*pb.RequestOp{txntree.Range(p.read())},
	}
}

// try puts the value if the key is unchanged since found, and reports whether it is
// stored. If not, it returns the key as it is now.
func (p *guardedPut) try(ctx context.Context, found []*mvccpb.KeyValue) (stored bool, now []*mvccpb.KeyValue, err error) {
	revision := modRevisionOf(found)
	from := p.client.rpc.Seen.Mark()
	// A mod revision never comes back, but a key can be missing again.
	r := request{op: "put", key: p.key, write: true, repeatable: revision > 0, seals: p.sealed}
	if revision > 0 {
		r.versions = func([]byte) int64 { return found[0].Version }
	}
	resp, before, err := p.client.exchange(ctx, r, p.boundTo(revision))
	switch {
	case MaybeApplied(err) && revision == 0:
		// If somebody else created the same, that may be deleted again while this request
		// is still under way. So only what is certainly its own counts.
		found, _ := p.client.testify(ctx, p.key, p.witness(witness{creates: true}), from)
		if found.applied {
			p.write.tellRevision(found.revision)
			return true, nil, p.overtake(ctx, found.revision)
		}
		return false, nil, err
	case err != nil:
		return false, nil, err
	case resp.Succeeded:
		p.write.tell(ctx, p.client.codec, resp.Header, resp.Responses[0].GetResponsePut().GetPrevKv())
		return true, nil, nil
	case before:
		stored, err = p.isStored(ctx, r, revision, from)
	case revision > 0 && !p.client.codec.unique(p.put.Key, p.put.Value):
		// A proxy may have sent it twice. For an encrypted value that would be known.
		stored = p.isFirst(ctx, revision, from)
	}
	return stored, resp.Responses[0].GetResponseRange().GetKvs(), err
}

// witness completes w with what was sent.
func (p *guardedPut) witness(w witness) witness {
	sent := putWitness(p.put, p.sealed)
	sent.since, sent.creates = w.since, w.creates
	return sent
}

// isStored reports whether an attempt without an answer was applied, if the key has
// changed since a revision.
func (p *guardedPut) isStored(ctx context.Context, r request, revision int64, from rpc.Mark) (bool, error) {
	found, err := p.client.testify(ctx, p.key, p.witness(witness{since: revision}), from)
	switch {
	case found.applied, found.same:
		// Another client may have written the same: then it makes no difference.
		p.tellFound(ctx, found.revision)
		return true, p.overtake(ctx, found.revision)
	case found.changed:
		return false, nil
	case err == nil:
		err = fmt.Errorf("%w: the key was deleted, or its history is compacted", ErrConflict)
	}
	return false, r.unsettled(err)
}

// overtake encrypts again what was found, if another key was promoted meanwhile.
func (p *guardedPut) overtake(ctx context.Context, revision int64) error {
	s := p.sealed
	if s == nil || !s.isLate(p.client.codec.keyring.current()) {
		return nil
	}
	return p.client.encryptAgain(ctx, request{op: "put", key: p.key, seals: s}, []*sealedPut{s}, revision)
}

// isFirst reports whether the first change of the key since a revision is exactly what
// the put would have made: then it need not be made again, whoever made it. If that can't
// be known, the put is bound anew, and that fails too if it has to.
func (p *guardedPut) isFirst(ctx context.Context, revision int64, from rpc.Mark) bool {
	found, err := p.client.testify(ctx, p.key, p.witness(witness{since: revision}), from)
	if err != nil || !found.same {
		return false
	}
	p.tellFound(ctx, found.revision)
	return true
}

// tellFound sets the result of a put whose answer was lost and which was found in the
// history of its key. The key-value that it replaced takes another round trip.
func (p *guardedPut) tellFound(ctx context.Context, revision int64) {
	p.write.tellRevision(revision)
	if !p.write.prevKV {
		return
	}
	req := &pb.RangeRequest{Key: p.put.Key, Revision: revision - 1}
	resp, err := do(ctx, p.client.conn, request{op: "put", key: p.key, pinned: true}, p.client.rpc.Get, req)
	if err == nil && len(resp.Kvs) > 0 { // else it was compacted meanwhile
		p.write.result.PrevKV, p.write.result.Err = p.client.codec.replaced(ctx, resp.Kvs[0])
	}
}
