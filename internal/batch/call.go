package batch

import (
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/keys"
)

// Call is a request that may travel with others. It belongs to the goroutine that makes it,
// and from [Lane.Queue] to [Lane.Wait] to its lane.
type Call[Load any] struct {
	// Op is the request as an operation of a transaction, about single keys alone.
	Op *pb.RequestOp
	// Size is about what Op takes in a message, in bytes.
	Size int
	// Deadline is when the caller leaves.
	Deadline time.Time
	// Load is what the caller and the sender of the batch have to tell each other.
	Load Load
	// Companions is how many calls were in the batch, this one included.
	Companions int

	lead  bool          // the call goes by itself and holds a place under way
	place Place         // that one
	alone bool          // the call goes by itself and holds none
	done  chan struct{} // closed when the call is answered, or is to go by itself
	batch *Batch[Load]  // nil while it is queued
	left  bool          // the caller is gone; guarded by the mu of the batch
	at    int           // place of its operation in the batch
}

// Place returns the place of a call that is Leading.
func (c *Call[Load]) Place() Place { return c.place }

// Fate is what became of a call that has waited.
type Fate int

const (
	// Answered means that the sender has answered the call.
	Answered Fate = iota
	// Leading means that the call goes by itself, and has [Lane.Leave] called when it is
	// answered.
	Leading
	// Alone means that the call goes by itself.
	Alone
	// Unsent means that the context ended before the operation was sent, and that it
	// never will be.
	Unsent
	// Underway means that the context ended after the operation was sent.
	Underway
)

// claims are keys that operations write, or read.
type claims map[string]bool

// meets reports whether an operation writes any of some keys, or reads any of others.
func meets(op *pb.RequestOp, written, read claims) bool {
	found := false
	visit(op, func(key []byte, writes bool) {
		if writes {
			found = found || written[keys.Text(key)]
		} else {
			found = found || read[keys.Text(key)]
		}
	})
	return found
}

// take adds what an operation writes, or what it reads or compares.
func (c claims) take(op *pb.RequestOp, written bool) {
	visit(op, func(key []byte, writes bool) {
		if writes == written {
			c[keys.Text(key)] = true
		}
	})
}

// visit calls f with the keys of an operation.
func visit(op *pb.RequestOp, f func(key []byte, writes bool)) {
	switch r := op.Request.(type) {
	case *pb.RequestOp_RequestPut:
		f(r.RequestPut.Key, true)
	case *pb.RequestOp_RequestDeleteRange:
		f(r.RequestDeleteRange.Key, true)
	case *pb.RequestOp_RequestRange:
		f(r.RequestRange.Key, false)
	case *pb.RequestOp_RequestTxn:
		for _, compare := range r.RequestTxn.Compare {
			f(compare.Key, false)
		}
		for _, op := range r.RequestTxn.Success {
			visit(op, f)
		}
		for _, op := range r.RequestTxn.Failure {
			visit(op, f)
		}
	}
}

// Joinable reports whether an operation can be in a batch: it is about single keys, and a
// transaction holds no further one.
func Joinable(op *pb.RequestOp) bool { return joinable(op, true) }

func joinable(op *pb.RequestOp, txns bool) bool {
	switch r := op.Request.(type) {
	case *pb.RequestOp_RequestPut:
		return true
	case *pb.RequestOp_RequestDeleteRange:
		return len(r.RequestDeleteRange.RangeEnd) == 0
	case *pb.RequestOp_RequestRange:
		return len(r.RequestRange.RangeEnd) == 0
	case *pb.RequestOp_RequestTxn:
		for _, compare := range r.RequestTxn.Compare {
			if len(compare.RangeEnd) > 0 {
				return false
			}
		}
		for _, ops := range [][]*pb.RequestOp{r.RequestTxn.Success, r.RequestTxn.Failure} {
			for _, op := range ops {
				if !txns || !joinable(op, false) {
					return false
				}
			}
		}
		return txns
	}
	return false
}

// sameRead reports whether two operations are the same read of a key.
func sameRead(a, b *pb.RangeRequest) bool {
	return a.Revision == b.Revision && a.KeysOnly == b.KeysOnly && a.CountOnly == b.CountOnly && a.Serializable == b.Serializable
}
