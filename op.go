package etcd

import (
	"bytes"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Op is an operation of a transaction. Make one with [OpPut], [OpGet] and their
// neighbours; the zero value is refused.
type Op struct {
	kind     opKind
	key      string // or the prefix
	prefix   bool
	value    []byte
	put      putOptions
	get      []GetOption
	delete   deleteOptions
	keysOnly bool
}

type opKind int

const (
	opNone opKind = iota
	opPut
	opGet
	opDelete
)

// OpPut stores value under key, see [Client.Put].
func OpPut(key string, value []byte, opts ...PutOption) Op {
	return Op{kind: opPut, key: key, value: value, put: putOptionsOf(opts)}
}

// OpGet reads key. A missing key is an empty result.
func OpGet(key string, opts ...GetOption) Op {
	return Op{kind: opGet, key: key, get: opts}
}

// OpGetPrefix reads all keys that begin with prefix.
func OpGetPrefix(prefix string, opts ...GetOption) Op {
	return Op{kind: opGet, key: prefix, prefix: true, get: opts}
}

// OpListPrefix reads all keys that begin with prefix, without their values.
func OpListPrefix(prefix string, opts ...GetOption) Op {
	return Op{kind: opGet, key: prefix, prefix: true, get: opts, keysOnly: true}
}

// OpDelete deletes key.
func OpDelete(key string) Op { return Op{kind: opDelete, key: key} }

// OpDeletePrefix deletes all keys that begin with prefix. The empty prefix needs
// [WithAllKeys].
func OpDeletePrefix(prefix string, opts ...DeleteOption) Op {
	op := Op{kind: opDelete, key: prefix, prefix: true}
	for _, opt := range opts {
		opt.applyDelete(&op.delete)
	}
	return op
}

// keys returns the range of keys that an operation or a condition is about.
func (c *Client) keys(key string, prefix bool) (keyRange, error) {
	if prefix {
		return c.prefixRange(key)
	}
	stored, err := c.stored(key)
	return keyRange{start: stored}, err
}

// requestOp converts an operation.
func (c *Client) requestOp(op Op) (*pb.RequestOp, error) {
	if op.kind == opNone {
		return nil, fmt.Errorf("%w: zero operation", ErrInvalidArgument)
	}
	keys, err := c.keys(op.key, op.prefix)
	if err != nil {
		return nil, err
	}
	switch op.kind {
	case opPut:
		req, err := c.putRequest(op.key, op.value, op.put)
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: req}}, err
	case opGet:
		o, err := getOptionsOf(op.get)
		if err != nil {
			return nil, err
		}
		req := o.rangeRequest(keys)
		req.KeysOnly = op.keysOnly
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: req}}, nil
	default: // opDelete
		if op.prefix && op.key == "" && !op.delete.allKeys {
			return nil, ErrEmptyPrefix
		}
		req := &pb.DeleteRangeRequest{Key: keys.start, RangeEnd: keys.end}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: req}}, nil
	}
}

// requestOps converts a branch of a transaction and notes whether it writes. It
// refuses what the server would: a key that is put twice, or put and deleted.
func (c *Client) requestOps(ops []Op, writes *bool) ([]*pb.RequestOp, error) {
	out := make([]*pb.RequestOp, len(ops))
	puts := make(map[string]bool)
	for i, op := range ops {
		var err error
		if out[i], err = c.requestOp(op); err != nil {
			return nil, err
		}
		if op.kind != opGet {
			*writes = true
		}
		if op.kind != opPut {
			continue
		}
		if puts[op.key] {
			return nil, fmt.Errorf("%w: %q", ErrDuplicateKey, op.key)
		}
		puts[op.key] = true
	}
	for _, op := range out {
		del := op.GetRequestDeleteRange()
		if del == nil {
			continue
		}
		deleted := keyRange{del.Key, del.RangeEnd}
		for key := range puts {
			if deleted.contains(append([]byte(c.cfg.Namespace), key...)) {
				return nil, fmt.Errorf("%w: %q is put and deleted", ErrDuplicateKey, key)
			}
		}
	}
	return out, nil
}

// contains reports whether key is in the range.
func (k keyRange) contains(key []byte) bool {
	switch {
	case k.end == nil:
		return bytes.Equal(key, k.start)
	case k.open():
		return bytes.Compare(key, k.start) >= 0
	default:
		return bytes.Compare(key, k.start) >= 0 && bytes.Compare(key, k.end) < 0
	}
}
