package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/batch"
	"github.com/blueprint-go/etcd/internal/rpc"
	"github.com/blueprint-go/etcd/internal/txntree"
)

// arrival is the answer to a batch.
type arrival struct {
	ops    []*pb.ResponseOp
	header *pb.ResponseHeader
}

// exchange sends a batch, nested as its size and the server's limit demand.
func (b *batching) exchange(t *travelling, write bool) (arrival, rpc.Report) {
	d := &departure{batching: b, batch: t}
	for {
		var policy rpc.Request
		if write {
			policy = rpc.Request{Write: true, Seals: d}
		} else if err := d.load(); err != nil {
			return arrival{}, rpc.Report{Err: err}
		}
		resp, report := rpc.Do(t.Context(), b.conn.rpc, policy, b.conn.rpc.Txn, &d.message)
		if report.Err == nil {
			b.nesting.Learn(d.limit, b.conn.cfg.MaxTxnOps)
			return arrival{ops: txntree.Flatten(nil, resp.Responses, d.levels), header: resp.Header}, report
		}
		lower := d.lower()
		if !errors.Is(report.Err, ErrTooManyOps) || report.MaybeApplied || lower == 0 {
			return arrival{}, report
		}
		d.most = lower
	}
}

// departure makes the message of a batch when it is sent: who is gone by then is not in it.
type departure struct {
	batching *batching
	batch    *travelling
	message  pb.TxnRequest
	most     int // operations at a level, if the server was found to take less; else 0

	// Of the message.
	limit, inner, levels, ops int
}

// errNotCurrent has the requests of a batch go by themselves, as another key was promoted
// since they were encrypted: whoever has its value encrypts it again.
var errNotCurrent = errors.New("sealed with an earlier key")

// errEmpty says that everybody is gone.
var errEmpty = errors.New("nobody waits for the batch")

// Seal implements rpc.Seals.
func (d *departure) Seal(ctx context.Context, _ bool, encode func(bool) error) error {
	if err := d.isFresh(ctx); err != nil {
		return err
	}
	err := errEmpty
	d.batch.Encode(func(aboard []*batch.Call[passenger]) {
		for _, call := range aboard {
			if !call.Load.seals.areCurrent() {
				err = errNotCurrent
				return
			}
		}
		if err = d.nest(aboard); err == nil {
			err = encode(false)
		}
	})
	return err
}

// load makes the message of reads, once: several attempts may be under way.
func (d *departure) load() error {
	err := errEmpty
	d.batch.Encode(func(aboard []*batch.Call[passenger]) { err = d.nest(aboard) })
	return err
}

// isFresh asks those who keep the keys of the batch whether they are known to be current.
func (d *departure) isFresh(ctx context.Context) error {
	for _, call := range d.batch.Calls {
		if s := call.Load.seals; s != nil {
			return s.codec.keyring.fresh(ctx) // they have one codec
		}
	}
	return nil
}

func (d *departure) nest(aboard []*batch.Call[passenger]) error {
	ops := make([]*pb.RequestOp, len(aboard))
	for i, call := range aboard {
		ops[i] = call.Op
	}
	d.ops, d.inner = len(ops), txntree.InnerOps(ops)
	d.limit = d.most
	if d.limit == 0 {
		d.limit = d.batching.nesting.Begin(d.ops, d.batching.conn.cfg.MaxTxnOps, d.inner)
	}
	levels, err := txntree.LevelsFor(d.ops, d.limit-d.inner)
	if err != nil {
		return err
	}
	d.levels = len(levels)
	d.message.Success = txntree.Nest(ops, levels)
	return nil
}

// lower returns the next limit to try for the same batch; 0 if there is none.
func (d *departure) lower() int {
	lower := max(d.limit/2, txntree.LowestLimit(d.ops)+d.inner)
	if lower >= d.limit {
		return 0
	}
	return lower
}
