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

// WriteOption is an option for every call that writes keys, but for
// [Client.Reencrypt]: [WithResult]. The operations of a transaction refuse it:
// [TxnResult] is theirs.
type WriteOption interface {
	PutOption
	DeleteOption
	DeletePrefixOption
	UpdateOption
	MoveOption
	TransactOption
	BulkPutOption
	BulkDeleteOption
	LoadOption
	ImportOption
}

// WithResult sets result to what the write tells about itself. It costs no further
// round trip. A nil result is refused with [ErrInvalidArgument].
func WithResult(result *WriteResult) WriteOption {
	if result == nil {
		return nil // refused as any nil option
	}
	*result = WriteResult{} // whatever becomes of the call
	return resultOption{result}
}

type resultOption struct{ result *WriteResult }

func (r resultOption) applyPut(o *putOptions)             { r.apply(&o.writeOptions) }
func (r resultOption) applyDelete(o *deleteOptions)       { r.apply(&o.writeOptions) }
func (r resultOption) applyDeletePrefix(o *deleteOptions) { r.apply(&o.writeOptions) }
func (r resultOption) applyUpdate(o *writeOptions)        { r.apply(o) }
func (r resultOption) applyMove(o *moveOptions)           { r.apply(&o.writeOptions) }
func (r resultOption) applyTransact(o *transactOptions)   { r.apply(&o.writeOptions) }
func (r resultOption) applyBulkPut(o *bulkOptions)        { r.apply(&o.put.writeOptions) }
func (r resultOption) applyBulkDelete(o *bulkOptions)     { r.apply(&o.put.writeOptions) }
func (r resultOption) applyLoad(o *bulkOptions)           { r.apply(&o.put.writeOptions) }
func (r resultOption) applyImport(o *importOptions)       { r.apply(&o.writeOptions) }

func (r resultOption) apply(o *writeOptions) {
	*r.result = WriteResult{} // an option may be used for several calls
	o.result = r.result
}

// PrevKVOption is an option for writes of one key and for watches: [WithPrevKV].
type PrevKVOption interface {
	PutOption
	DeleteOption
	UpdateOption
	WatchOption
}

// WithPrevKV asks for the key-value before the change: for each event of a watch
// ([Event.PrevKv], nil when it was compacted), for a write [WithResult]
// ([WriteResult.PrevKV]; without one it is refused with [ErrInvalidArgument]), and for
// a put or a delete in a transaction ([OpResult.PrevKV]). The user has to be allowed to
// read the key.
func WithPrevKV() PrevKVOption { return prevKVOption{} }

type prevKVOption struct{}

func (prevKVOption) applyWatch(o *watchOptions)   { o.prevKV = true }
func (prevKVOption) applyPut(o *putOptions)       { o.prevKV = true }
func (prevKVOption) applyDelete(o *deleteOptions) { o.prevKV = true }
func (prevKVOption) applyUpdate(o *writeOptions)  { o.prevKV = true }

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

// tellTxn sets the result to the outcome of a transaction whose first operation is the
// write.
func (o writeOptions) tellTxn(r *TxnResult) {
	if o.result == nil || r == nil {
		return
	}
	o.result.Revision = r.Revision
	if o.prevKV && r.Succeeded && len(r.Results) > 0 {
		o.result.PrevKV, o.result.Err = r.Results[0].PrevKV, r.Results[0].Err
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

// takeResult takes what the caller wants to know out of an operation that is sent in a
// transaction of this package's making.
func (op *Op) takeResult() writeOptions {
	w := &op.put.writeOptions
	if op.kind == kindDelete {
		w = &op.delete.writeOptions
	}
	out := *w
	w.result = nil
	return out
}
