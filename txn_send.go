package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/txntree"
)

// sendBulk sends operations in one transaction, nested as the limit demands, and returns
// their responses in order and the revision. Operations that are transactions hold one
// operation each.
//
// A server configured with a lower limit than this client refuses what is nested too
// loosely, before it looks at anything else. Then sendBulk sends it again, nested more
// tightly, down to the lowest limit at which so many operations can be nested at all.
func (c *Client) sendBulk(ctx context.Context, r request, ops []*pb.RequestOp) (out []*pb.ResponseOp, revision int64, err error) {
	err = c.withDeadline(ctx, r, func(ctx context.Context) error {
		if len(ops) == 0 {
			return nil
		}
		configured, inner := c.cfg.MaxTxnOps, txntree.InnerOps(ops)
		limit := c.nesting.Begin(len(ops), configured, inner)
		for {
			levels, err := txntree.LevelsFor(len(ops), limit-inner)
			if err != nil {
				return r.fail(err)
			}
			resp, err := c.sendTxn(ctx, r, &pb.TxnRequest{Success: txntree.Nest(ops, levels)})
			if err == nil {
				c.nesting.Learn(limit, configured)
				revision = resp.Header.GetRevision()
				out = txntree.Flatten(make([]*pb.ResponseOp, 0, len(ops)), resp.Responses, len(levels))
				return nil
			}
			lower := max(limit/2, txntree.LowestLimit(len(ops))+inner)
			if !errors.Is(err, ErrTooManyOps) || MaybeApplied(err) || lower >= limit {
				return err
			}
			limit = lower
		}
	})
	return out, revision, err
}

// sendTxn checks and sends a transaction.
func (c *Client) sendTxn(ctx context.Context, r request, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp, _, err := c.exchange(ctx, r, req)
	return resp, err
}

// exchange is sendTxn, and reports as well whether the transaction may have been applied
// before the attempt that was answered.
func (c *Client) exchange(ctx context.Context, r request, req *pb.TxnRequest) (resp *pb.TxnResponse, before bool, err error) {
	if err := c.rpc.CheckSize(req); err != nil {
		return nil, false, r.fail(err)
	}
	from := c.rpc.Seen.Mark()
	resp, before, err = doubtful(ctx, c.conn, r, c.rpc.Txn, req)
	if err == nil && r.write && c.codec.encrypts() {
		resp, err = c.unreplayed(ctx, r, req, resp, from)
	}
	if err == nil && r.seals != nil && wrote(resp) {
		err = c.overtake(ctx, r, resp.Header.GetRevision())
	}
	return resp, before, err
}
