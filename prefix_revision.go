package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/txntree"
)

const opRevision = "revision"

// Revision returns the revision of the store: that of the last change of any key of the
// cluster, by anyone. It is linearizable: it includes every change acknowledged before
// the call. A watch [WithRevision] from the next one on sees every later
// change:
//
//	revision, err := client.Revision(ctx)
//	…
//	watch := client.WatchPrefix(ctx, "/app/", etcd.WithRevision(revision+1))
//
// It takes one round trip, or two for a user who may not read the beginning of the
// namespace. To begin with the keys that exist, see [Client.Range].
func (c *Client) Revision(ctx context.Context) (int64, error) {
	var revision int64
	err := c.withDeadline(ctx, request{op: opRevision}, func(ctx context.Context) error {
		req := &pb.RangeRequest{Key: c.whole("\x00"), CountOnly: true}
		resp, err := do(ctx, c.conn, request{op: opRevision}, c.rpc.Get, req)
		if errors.Is(err, ErrPermissionDenied) {
			revision, err = c.revisionWithoutReading(ctx)
			return err
		}
		revision = resp.GetHeader().GetRevision()
		return err
	})
	return revision, err
}

// revisionWithoutReading asks by an empty transaction, which every user may make. Because
// it is nested, the server doesn't take it for a transaction of serializable reads only:
// it goes through raft, and is as linearizable as a write. It changes nothing, so it is
// sent again like a read.
func (c *Client) revisionWithoutReading(ctx context.Context) (int64, error) {
	nothing := &pb.TxnRequest{Success: []*pb.RequestOp{txntree.Txn(&pb.TxnRequest{})}}
	resp, err := do(ctx, c.conn, request{op: opRevision}, c.rpc.Txn, nothing)
	return resp.GetHeader().GetRevision(), err
}
