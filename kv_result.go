package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// WriteResult is what a write returns about itself to callers that ask for it by
// [WithResult]. The call sets all of it: it is zero when the call fails, except for the
// calls that are not atomic, see Revision. Use one WriteResult for one call at a time.
type WriteResult struct {
	// Revision is the revision of the store after the write: its own if it changed
	// anything. If it changed nothing (a comparison did not hold, the key to delete was
	// missing, the value was equal), it is the revision at which that was so. A watch
	// [WithRevision] from the next one on delivers what came after the write, and not the
	// write itself.
	//
	// Calls that are not atomic ([InChunks], [Client.BulkLoad], [Client.Import]) set the
	// newest revision of the chunks that are certainly applied, even when the call fails.
	// It is 0 when nothing was sent to the server: an empty bulk call, a
	// [Client.Transact] that neither read nor wrote.
	Revision int64
	// PrevKV is the key-value that the write replaced or deleted, if [WithPrevKV] asked
	// for it. It is nil if there was none, or if nothing was written. Its Value is nil if
	// it could not be decoded.
	PrevKV *KeyValue
	// Err is a [*DecodeError] if the value of PrevKV could not be decoded. It is not an
	// error of the write, which succeeded.
	Err error
}

// writeOptions are the options that every write takes.
type writeOptions struct {
	result     *WriteResult
	prevKV     bool
	conditions []Condition // see WithCondition
}

// check refuses to fetch what nobody would see.
func (o writeOptions) check() error {
	for _, cond := range o.conditions {
		if !cond.valid {
			return errZeroCondition
		}
	}
	if o.prevKV && o.result == nil {
		return fmt.Errorf("%w: WithPrevKV without WithResult", ErrInvalidArgument)
	}
	return nil
}

// checkOp refuses options that an operation of a transaction can't serve.
func (o writeOptions) checkOp() error {
	switch {
	case o.result != nil:
		return fmt.Errorf("%w: WithResult in a transaction, which has a TxnResult", ErrInvalidArgument)
	case o.conditions != nil:
		return fmt.Errorf("%w: WithCondition in a transaction, which has If", ErrInvalidArgument)
	}
	return nil
}

// tell sets the result, if there is one, from an answer.
func (o writeOptions) tell(ctx context.Context, c *codec, header *pb.ResponseHeader, prev *mvccpb.KeyValue) {
	if o.result == nil {
		return
	}
	o.result.Revision = header.GetRevision()
	o.result.PrevKV, o.result.Err = c.replaced(ctx, prev)
}

// tellRevision sets the revision of a write that has no single key.
func (o writeOptions) tellRevision(revision int64) {
	if o.result != nil {
		o.result.Revision = revision
	}
}

// replaced converts the key-value that a write replaced, if that was asked for.
func (c *codec) replaced(ctx context.Context, prev *mvccpb.KeyValue) (*KeyValue, error) {
	d := c.decoding(ctx)
	defer d.end()
	return d.replaced(prev)
}

func (d *decoding) replaced(prev *mvccpb.KeyValue) (*KeyValue, error) {
	if prev == nil {
		return nil, nil
	}
	kv, err := d.keyValue(prev, false)
	return &kv, err
}
