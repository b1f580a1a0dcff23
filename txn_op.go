package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// Op is an operation of a transaction. Make one with [OpPut], [OpGet] and similar
// functions; the zero value is refused.
type Op struct {
	kind     opKind
	reach    opReach
	key      string // or the prefix, or the start of the range
	end      string // of the range
	value    []byte
	put      putOptions
	get      getOptions
	delete   deleteOptions
	keysOnly bool
	txn      *Txn
	bad      error // of its options
}

type opKind int

const (
	kindNone opKind = iota
	kindPut
	kindGet
	kindDelete
	kindTxn
)

// opReach says which keys an operation is about.
type opReach int

const (
	oneKey opReach = iota
	underPrefix
	upToEnd
)

// OpPut stores value under key, see [Client.Put].
func OpPut(key string, value []byte, opts ...PutOption) Op {
	o, err := putOptionsOf(opts)
	return Op{kind: kindPut, key: key, value: value, put: o, bad: err}
}

// OpGet reads key. A missing key gives an empty result.
func OpGet(key string, opts ...GetOption) Op {
	o, err := getOptionsOf(opts)
	return Op{kind: kindGet, key: key, get: o, bad: err}
}

// OpGetPrefix reads all keys that begin with prefix.
func OpGetPrefix(prefix string, opts ...GetOption) Op {
	o, err := getOptionsOf(opts)
	return Op{kind: kindGet, reach: underPrefix, key: prefix, get: o, bad: err}
}

// OpListPrefix reads all keys that begin with prefix, without their values.
func OpListPrefix(prefix string, opts ...GetOption) Op {
	o, err := getOptionsOf(opts)
	return Op{kind: kindGet, reach: underPrefix, key: prefix, get: o, keysOnly: true, bad: err}
}

// OpGetRange reads the keys from start up to but not including end, like
// [Client.GetRange]: an empty end means the end of all keys.
func OpGetRange(start, end string, opts ...GetOption) Op {
	o, err := getOptionsOf(opts)
	return Op{kind: kindGet, reach: upToEnd, key: start, end: end, get: o, bad: err}
}

// OpListRange reads the keys from start up to but not including end, without their values:
// see [OpGetRange].
func OpListRange(start, end string, opts ...GetOption) Op {
	o, err := getOptionsOf(opts)
	return Op{kind: kindGet, reach: upToEnd, key: start, end: end, get: o, keysOnly: true, bad: err}
}

// OpDelete deletes key.
func OpDelete(key string, opts ...DeleteOption) Op {
	o, err := deleteOptionsOf(opts)
	return Op{kind: kindDelete, key: key, delete: o, bad: err}
}

// OpDeletePrefix deletes all keys that begin with prefix. The empty prefix needs
// [WithAllKeys].
func OpDeletePrefix(prefix string, opts ...DeletePrefixOption) Op {
	o, err := deletePrefixOptionsOf(opts)
	return Op{kind: kindDelete, reach: underPrefix, key: prefix, delete: o, bad: err}
}

// OpDeleteRange deletes the keys from start up to but not including end. An empty end
// means the end of all keys; with an empty start as well, it needs [WithAllKeys].
func OpDeleteRange(start, end string, opts ...DeletePrefixOption) Op {
	o, err := deletePrefixOptionsOf(opts)
	return Op{kind: kindDelete, reach: upToEnd, key: start, end: end, delete: o, bad: err}
}

// OpTxn commits t as a part of the transaction around it: t's own conditions decide which
// of its branches is applied. t must come from [Client.Txn] of the same client; its
// contents are read when the outer transaction is committed.
//
// All conditions of the tree are decided on the state before the transaction: those of t
// don't see the effects of the operations before it. Its operations do, like all later
// operations of a transaction.
func OpTxn(t *Txn) Op { return Op{kind: kindTxn, txn: t} }

// opRange returns the keys that an operation is about.
func (c *Client) opRange(op Op) (keys.Range, error) {
	if op.reach == upToEnd {
		return c.between(op.key, op.end)
	}
	return c.keyOrPrefix(op.key, op.reach == underPrefix)
}

// requestOp converts an operation other than a nested transaction. The second result is
// for a put whose value is encrypted.
func (c *Client) requestOp(ctx context.Context, op Op) (*pb.RequestOp, *sealedPut, error) {
	if op.kind == kindNone {
		return nil, nil, fmt.Errorf("%w: zero operation", ErrInvalidArgument)
	}
	if op.bad != nil {
		return nil, nil, op.bad
	}
	rng, err := c.opRange(op)
	if err == nil {
		err = op.checkOptions()
	}
	if err != nil {
		return nil, nil, err
	}
	switch op.kind {
	case kindPut:
		return c.sealedOp(ctx, op.key, op.value, op.put)
	case kindGet:
		req := op.get.rangeRequest(rng)
		req.KeysOnly = op.keysOnly
		return txntree.Range(req), nil, nil
	default: // kindDelete
		if op.everything() && !op.delete.allKeys {
			return nil, nil, ErrEmptyPrefix
		}
		req := &pb.DeleteRangeRequest{Key: rng.Start, RangeEnd: rng.End, PrevKv: op.delete.prevKV}
		return txntree.Delete(req), nil, nil
	}
}

// checkOptions refuses options that are not for an operation of a transaction.
func (op Op) checkOptions() error {
	if op.delete.chunked {
		return fmt.Errorf("%w: InChunks in a transaction", ErrInvalidArgument)
	}
	if err := op.delete.checkOp(); err != nil {
		return err
	}
	return op.put.checkOp()
}

// everything reports whether an operation is about all keys.
func (op Op) everything() bool { return op.reach != oneKey && op.key == "" && op.end == "" }

// sealedOp returns a put as an operation of a transaction.
func (c *Client) sealedOp(ctx context.Context, key string, value []byte, o putOptions) (*pb.RequestOp, *sealedPut, error) {
	req, sealed, err := c.putRequest(ctx, key, value, o)
	return txntree.Put(req), sealed, err
}

// takeResult removes the caller's wish for a result from an operation, and returns it,
// for a transaction that this package makes.
func (op *Op) takeResult() writeOptions {
	w := &op.put.writeOptions
	if op.kind == kindDelete {
		w = &op.delete.writeOptions
	}
	out := *w
	w.result, w.conditions = nil, nil
	return out
}
