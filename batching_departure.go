package etcd

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/batch"
	"github.com/blueprint-go/etcd/internal/rpc"
)

// exchange sends a batch.
func (b *batching) exchange(d *departure, about freight) (*pb.TxnResponse, rpc.Report) {
	var policy rpc.Request
	if about != reads {
		policy = rpc.Request{Write: true, Seals: d}
	} else if err := d.load(); err != nil {
		return nil, rpc.Report{Err: err}
	}
	return rpc.Do(d.batch.Context(), b.conn.rpc, policy, b.conn.rpc.Txn, &d.message)
}

// departure makes the message of a batch when it is sent: who is gone by then is not in it.
type departure struct {
	batch   *travelling
	message pb.TxnRequest
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
		d.fill(aboard)
		err = encode(false)
	})
	return err
}

// NotApplied implements rpc.Recaller: who leaves now has certainly changed nothing.
func (d *departure) NotApplied(reason error) { d.batch.Recall(reason) }

// load makes the message of reads, once: several attempts may be under way.
func (d *departure) load() error {
	err := errEmpty
	d.batch.Encode(func(aboard []*batch.Call[passenger]) {
		d.fill(aboard)
		err = nil
	})
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

// fill puts the operations into the message.
func (d *departure) fill(aboard []*batch.Call[passenger]) {
	d.message.Success = make([]*pb.RequestOp, len(aboard))
	for i, call := range aboard {
		d.message.Success[i] = call.Op
	}
}
