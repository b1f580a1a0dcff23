package etcd

import (
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// keysWithoutClaims is withoutClaims for key-values that were read without their values,
// at a revision. It takes a round trip for every 32 keys with such names.
func (c *Client) keysWithoutClaims(ctx context.Context, r request, o getOptions, kvs []*mvccpb.KeyValue) ([]*mvccpb.KeyValue, error) {
	var named []*mvccpb.KeyValue
	for _, kv := range kvs {
		if isNamedClaim(kv.Key) {
			named = append(named, kv)
		}
	}
	claims := map[*mvccpb.KeyValue]bool{}
	for piece := range slices.Chunk(named, claimsPerRead) {
		req := &pb.TxnRequest{}
		for _, kv := range piece {
			get := o.rangeRequest(keys.Range{Start: kv.Key})
			get.Limit = 0
			req.Success = append(req.Success, txntree.Range(get))
		}
		resp, err := c.sendTxn(ctx, r, req)
		if err != nil {
			return nil, err
		}
		for i, kv := range piece[:min(len(piece), len(resp.Responses))] {
			if found := resp.Responses[i].GetResponseRange().GetKvs(); len(found) == 1 {
				claims[kv] = isClaim(found[0])
			}
		}
	}
	if len(claims) == 0 {
		return kvs, nil
	}
	return slices.DeleteFunc(slices.Clone(kvs), func(kv *mvccpb.KeyValue) bool { return claims[kv] }), nil
}

// claimsPerRead is how many keys one request looks at. A key that is only named like a
// claim may have a large value.
const claimsPerRead = 32
