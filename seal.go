package etcd

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	// registers gRPC's own codec
	"github.com/blueprint-go/etcd/internal/envelope"
)

// sealedPut is a put whose value is encrypted. Its value is sealed when the request is
// built, which determines its size, and once more if the primary key has changed when an
// attempt sends it. So no call stores a value with an older key just because it began
// early.
//
// The puts of one request form a list, so that they cost no allocation of their own.
type sealedPut struct {
	codec *codec
	wire  pb.PutRequest
	value []byte // the caller's; it doesn't change before the call returns
	// key sealed wire.Value; nil if that was sealed elsewhere (an import that stores
	// values as they are). Then wire.Value is current while the ring opens it and beside
	// is the primary.
	key     *envelope.Key
	beside  *envelope.Key
	earlier [][]byte // what earlier attempts without an answer have sent
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

// isCurrent reports whether the value may be sent as sealed, with these keys.
func (s *sealedPut) isCurrent(now *keySet) bool {
	if s.key == nil {
		id, _ := envelope.KeyIDOf(s.wire.Value)
		return s.beside == now.primary && now.ring.Lookup(id) != nil
	}
	return s.key == now.primary ||
		now.primary != nil && s.key.ID() == now.primary.ID() && s.key.Suite() == now.primary.Suite()
}

// renew seals those values of a list again that are not sealed with the primary key any
// more, and reports whether there were any. lost says that an attempt may have been
// applied with their former bytes.
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
