package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// WriteResult is what a write tells about itself to those who ask by [WithResult]. The
// call sets all of it: it is zero when the call fails, but for the calls that are not
// atomic, see Revision. One WriteResult belongs to one call at a time.
type WriteResult struct {
	// Revision is the revision of the store after the write: its own if it changed
	// anything. If it changed nothing (a comparison did not hold, the key to be deleted
	// was missing, the value was equal), it is the revision at which that was so. A
	// watch [WithRevision] from the next one on sees what came after the write, and
	// not the write itself.
	//
	// Calls that are not atomic ([InChunks], [Client.BulkLoad], [Client.Import]) tell
	// the newest of their revisions, of the chunks that are certainly applied, also
	// when the call failed. It is 0 when nothing was asked of the server: a bulk call
	// of nothing, a [Client.Transact] that read nothing and wrote nothing.
	Revision int64
	// PrevKV is the key-value that the write has replaced or deleted, if [WithPrevKV]
	// asked for it. It is nil when there was none, and when nothing was written. Its
	// Value is nil when it could not be decoded.
	PrevKV *KeyValue
	// Err is a [*DecodeError] when the value of PrevKV could not be decoded. It is no
	// error of the write, which is done.
	Err error
}

// writeOptions are what every write may be asked for.
type writeOptions struct {
	result *WriteResult
	prevKV bool
}

// check refuses what could not be told to anybody.
func (o writeOptions) check() error {
	if o.prevKV && o.result == nil {
		return fmt.Errorf("%w: WithPrevKV without WithResult", ErrInvalidArgument)
	}
	return nil
}

// checkOp refuses what an operation of a transaction can't tell.
func (o writeOptions) checkOp() error {
	if o.result != nil {
		return fmt.Errorf("%w: WithResult in a transaction, which has a TxnResult", ErrInvalidArgument)
	}
	return nil
}

// tell sets the result, if there is one, to what an answer holds.
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

// replaced converts the key-value that a write has replaced, if it was asked for.
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
