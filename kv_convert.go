package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// keyValue converts a single key-value of the wire, see decoding.
func (c *Client) keyValue(ctx context.Context, kv *mvccpb.KeyValue, keysOnly bool) (KeyValue, error) {
	d := c.codec.decoding(ctx)
	defer d.end()
	return d.keyValue(kv, keysOnly)
}

// keyValues converts the key-values of an answer, see decoding.
func (c *Client) keyValues(ctx context.Context, kvs []*mvccpb.KeyValue) ([]KeyValue, error) {
	d := c.codec.decoding(ctx)
	defer d.end()
	return d.keyValues(kvs, false)
}

// putRequest builds the request for a put; no other place encodes a caller's value. If
// the value gets encrypted, the second result must go into the request that sends the
// put.
func (c *Client) putRequest(ctx context.Context, key string, value []byte, o putOptions) (*pb.PutRequest, *sealedPut, error) {
	if o.guarded {
		return nil, nil, fmt.Errorf("%w: WithGuard is for single puts", ErrInvalidArgument)
	}
	stored, err := c.stored(key)
	if err != nil {
		return nil, nil, err
	}
	encoded, sealedBy, err := c.codec.encode(ctx, stored, value)
	if err != nil {
		return nil, nil, err
	}
	if sealedBy == nil {
		return &pb.PutRequest{Key: stored, Value: encoded, Lease: int64(o.lease), IgnoreLease: o.ignoreLease, PrevKv: o.prevKV}, nil, nil
	}
	s := &sealedPut{codec: c.codec, value: value, key: sealedBy}
	s.wire.Key, s.wire.Value, s.wire.Lease, s.wire.IgnoreLease, s.wire.PrevKv = stored, encoded, int64(o.lease), o.ignoreLease, o.prevKV
	return &s.wire, s, nil
}
