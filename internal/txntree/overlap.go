package txntree

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/keys"
)

// written is what some operations of a transaction may write, with all keys as stored.
//
// One transaction may put a key only once, and must not both put and delete it.
// Operations that can't be applied together, those of the two branches of one
// transaction, may overlap. This follows the server
// (server/v3/etcdserver/api/v3rpc/key.go, checkIntervals), but closes two gaps of its
// check, so that the order of operations and the position of keys make no difference: the
// server accepts a key that one nested transaction puts and a later one deletes, and a
// deletion to the end of all keys beside a put.
type written struct {
	namespace int // how many bytes of a key its errors leave out
	puts      map[string]bool
	deletes   map[string]bool
	ranges    []keys.Range // deleted, of more than one key
}

// CheckOverlaps refuses operations of the outermost branch that may not be applied
// together. Its errors leave out the first namespace bytes of each key.
func CheckOverlaps(ops []*pb.RequestOp, namespace int) error {
	if len(ops) == 1 && ops[0].GetRequestTxn() == nil {
		return nil // the usual case: it can't overlap with anything
	}
	return (&written{namespace: namespace}).add(ops)
}

// add adds what operations may write, or refuses operations that may not be together.
func (w *written) add(ops []*pb.RequestOp) error {
	for _, op := range ops {
		var err error
		switch r := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			err = w.put(keys.Text(r.RequestPut.Key))
		case *pb.RequestOp_RequestDeleteRange:
			err = w.delete(keys.Range{Start: r.RequestDeleteRange.Key, End: r.RequestDeleteRange.RangeEnd})
		case *pb.RequestOp_RequestTxn:
			err = w.branches(r.RequestTxn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// branches adds both branches of a nested transaction.
func (w *written) branches(txn *pb.TxnRequest) error {
	then, err := w.branch(txn.Success)
	if err != nil {
		return err
	}
	els, err := w.branch(txn.Failure)
	if err != nil {
		return err
	}
	w.merge(then) // only now: the branches are not compared with each other
	w.merge(els)
	return nil
}

// branch returns what a branch may write, if that may go together with w.
func (w *written) branch(ops []*pb.RequestOp) (*written, error) {
	branch := &written{namespace: w.namespace}
	if err := branch.add(ops); err != nil {
		return nil, err
	}
	return branch, w.check(branch)
}

func (w *written) put(key string) error {
	if err := w.checkPut(key); err != nil {
		return err
	}
	insert(&w.puts, key)
	return nil
}

func (w *written) delete(rng keys.Range) error {
	if err := w.checkDelete(rng); err != nil {
		return err
	}
	if rng.End == nil {
		insert(&w.deletes, keys.Text(rng.Start))
	} else {
		w.ranges = append(w.ranges, rng)
	}
	return nil
}

func (w *written) checkPut(key string) error {
	if w.puts[key] {
		return fmt.Errorf("%w: %q", errs.ErrDuplicateKey, w.name(key))
	}
	deleted := w.deletes[key]
	for _, r := range w.ranges {
		deleted = deleted || r.Contains([]byte(key))
	}
	if deleted {
		return w.putAndDeleted(key)
	}
	return nil
}

func (w *written) checkDelete(rng keys.Range) error {
	if key := keys.Text(rng.Start); rng.End == nil {
		if w.puts[key] {
			return w.putAndDeleted(key)
		}
		return nil
	}
	for key := range w.puts {
		if rng.Contains([]byte(key)) {
			return w.putAndDeleted(key)
		}
	}
	return nil
}

func (w *written) putAndDeleted(key string) error {
	return fmt.Errorf("%w: %q is put and deleted", errs.ErrDuplicateKey, w.name(key))
}

// name returns a key for an error.
func (w *written) name(key string) string { return key[min(w.namespace, len(key)):] }

// check refuses others if they may not go together with w.
func (w *written) check(others *written) error {
	for key := range others.puts {
		if err := w.checkPut(key); err != nil {
			return err
		}
	}
	for key := range others.deletes {
		if w.puts[key] {
			return w.putAndDeleted(key)
		}
	}
	for _, r := range others.ranges {
		if err := w.checkDelete(r); err != nil {
			return err
		}
	}
	return nil
}

func (w *written) merge(others *written) {
	for key := range others.puts {
		insert(&w.puts, key)
	}
	for key := range others.deletes {
		insert(&w.deletes, key)
	}
	w.ranges = append(w.ranges, others.ranges...)
}

// insert adds a key to a set, and makes the set for its first key.
func insert(set *map[string]bool, key string) {
	if *set == nil {
		*set = map[string]bool{}
	}
	(*set)[key] = true
}
