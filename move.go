package etcd

import (
	"context"
	"errors"
	"fmt"
)

// MoveKey renames a key, together with its value and lease, atomically: other clients see
// either the old key or the new one. The value is encrypted anew for its new key. It
// takes two round trips, more while the keys keep changing.
//
// A move from a key whose value is encrypted to one whose value is not, by
// [Config.UnencryptedPrefixes] or [Config.PlaintextWrites], would publish the value. It
// fails with [ErrInvalidArgument] unless [WithPlaintextTarget] is given, and nothing is
// sent.
//
// [WithResult] returns the revision of the move. MoveKey fails with [ErrKeyNotFound] if
// from does not exist, with [ErrKeyExists] if to does, and with [ErrConflict] if the keys
// still keep changing at the deadline; then nothing is changed, unless [MaybeApplied]
// reports true.
func (c *Client) MoveKey(ctx context.Context, from, to string, opts ...MoveOption) error {
	return c.relocate(ctx, relocation{op: "move", from: from, to: to, then: []Op{OpDelete(from)}}, opts)
}

// CopyKey stores the value of a key under another one as well, attached to the same
// lease. It is [Client.MoveKey] without deleting the old key, and fails in the same ways:
// the copy has the value that from has at that moment.
func (c *Client) CopyKey(ctx context.Context, from, to string, opts ...MoveOption) error {
	return c.relocate(ctx, relocation{op: "copy", from: from, to: to}, opts)
}

// relocation is a move or a copy.
type relocation struct {
	op, from, to string
	then         []Op // besides the put of the new key
}

func (c *Client) relocate(ctx context.Context, r relocation, opts []MoveOption) error {
	o, err := moveOptionsOf(opts)
	if err != nil {
		return fail(r.op, r.from, err)
	}
	if r.from == r.to {
		return fail(r.op, r.from, errors.Join(ErrInvalidArgument, ErrKeyExists))
	}
	target, err := c.stored(r.to)
	if err != nil {
		return fail(r.op, r.to, err)
	}
	if c.codec.encryptsAt(c.whole(r.from)) && !c.codec.encryptsAt(target) && !o.plaintextTarget {
		return fail(r.op, r.to, fmt.Errorf("%w: the value would be stored without encryption; WithPlaintextTarget allows it", ErrInvalidArgument))
	}
	return c.optimistic(ctx, request{op: r.op, key: r.from}, o.writeOptions, r.reads(), func(found *TxnResult) (*Txn, error) {
		source, target := found.Results[0], found.Results[1]
		switch {
		case len(source.KVs) == 0 && source.Err == nil:
			return nil, answered(r.op, r.from, ErrKeyNotFound)
		case len(target.KVs) > 0:
			return nil, answered(r.op, r.to, ErrKeyExists)
		case source.Err != nil:
			return nil, answered(r.op, r.from, source.Err)
		}
		kv := source.KVs[0]
		return c.Txn().
			If(ModRevision(r.from).Equal(kv.ModRevision), Missing(r.to)).
			Then(OpPut(r.to, kv.Value, WithLease(kv.Lease))).
			Then(r.then...), nil
	})
}

// reads returns what must be known: all of the source, and whether the destination
// exists.
func (r relocation) reads() []Op {
	exists := OpGet(r.to)
	exists.keysOnly = true
	return []Op{OpGet(r.from), exists}
}
