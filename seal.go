package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	// registers the codec of gRPC itself
	"github.com/blueprint-go/etcd/internal/envelope"
)

// sealedPut is a put whose value is encrypted. Its value is sealed when the request
// is built, which tells its size, and once more when an attempt sends it under a key
// that has become the primary since: nothing is stored with an older key because the
// call that stores it began early.
//
// The puts of one request are a list, so that they cost no allocation of their own.
type sealedPut struct {
	codec *codec
	wire  pb.PutRequest
	value []byte // the caller's, who doesn't change it before the call returns
	// key sealed wire.Value; nil if it was sealed elsewhere (an import stores it as it
	// is), which stands for as long as the ring opens it and beside is the primary.
	key     *envelope.Key
	beside  *envelope.Key
	earlier [][]byte // what else attempts without an answer have sent
	next    *sealedPut
}

// link puts the puts in front of a list and returns it.
func (s *sealedPut) link(list *sealedPut) *sealedPut {
	if s == nil {
		return list
	}
	s.next = list
	return s
}

// isCurrent reports whether the value may be sent under these keys as it is sealed.
func (s *sealedPut) isCurrent(now *keySet) bool {
	if s.key == nil {
		id, _ := envelope.KeyIDOf(s.wire.Value)
		return s.beside == now.primary && now.ring.Lookup(id) != nil
	}
	return s.key == now.primary ||
		now.primary != nil && s.key.ID() == now.primary.ID() && s.key.Suite() == now.primary.Suite()
}

// renew seals the values of a list again that are not of the primary key any more,
// and reports whether there were any. lost says that an attempt may have been
// applied with what they were.
func (c *codec) renew(ctx context.Context, list *sealedPut, lost bool) (bool, error) {
	if err := c.keyring.fresh(ctx); err != nil {
		return false, err
	}
	renewed := false
	for s := list; s != nil; s = s.next {
		if s.isCurrent(c.keyring.current()) {
			continue
		}
		stored, key, err := c.seal(ctx, s.wire.Key, s.value)
		if err != nil {
			return renewed, err
		}
		if lost {
			s.earlier = append(s.earlier, s.wire.Value)
		}
		s.wire.Value, s.key, renewed = stored, key, true
	}
	return renewed, nil
}

// Renew implements rpc.Seals.
func (s *sealedPut) Renew(ctx context.Context, lost bool) (bool, error) {
	return s.codec.renew(ctx, s, lost)
}

// earlierOf returns what else may have been stored for a put of the list.
func (s *sealedPut) earlierOf(put *pb.PutRequest) [][]byte {
	for ; s != nil; s = s.next {
		if &s.wire == put {
			return s.earlier
		}
	}
	return nil
}
