package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd/internal/txntree"
)

// BulkLoad stores any number of key-values in chunks, several of which are under way at a
// time. It holds only those in memory, so kvs may have any length. A chunk takes one
// round trip; see [DefaultChunkKeys] and [DefaultParallelism].
//
// Unlike [Client.BulkPut] it is not atomic: each chunk is a revision of its own. If the
// load fails, the report says how many key-values are stored, counted from the first. If
// [MaybeApplied] reports true for the error, further chunks may be stored, at most one
// for each that was under way; otherwise none is. To resume, leave out the first Applied
// key-values: storing the others twice does no harm.
//
// A key may come twice; the later value wins. BulkLoad then waits for all chunks under
// way, so a sequence of few keys that repeat often is slow. The caller may overwrite a
// value as soon as the sequence goes on.
//
// Each chunk has [Config.RequestTimeout], unless ctx has a deadline. After a chunk has
// failed, BulkLoad begins no other and waits for those under way. If the server refuses a
// chunk for its size, because its limits are lower than the configured ones, BulkLoad
// cuts the chunk and makes later ones smaller. A key or a value that can't be stored ends
// the load too, and its chunk is not sent.
//
// kvs runs in the goroutine of the caller; nothing interrupts it while it waits. If it
// panics, the chunks under way are cancelled, and the panic passes through.
//
// The options are those of single puts, which apply to each put ([WithLease],
// [WithIgnoreLease]), those of chunks, and [WithLoadProgress].
func (c *Client) BulkLoad(ctx context.Context, kvs iter.Seq2[string, []byte], opts ...LoadOption) (LoadReport, error) {
	const op = "bulk load"
	o, err := bulkOptionsOf(opts, LoadOption.applyLoad)
	if err == nil && kvs == nil {
		err = fmt.Errorf("%w: nil sequence", ErrInvalidArgument)
	}
	if err != nil {
		return LoadReport{}, fail(op, "", err)
	}
	report, err := c.load(ctx, op, func(yield func(loadPut, error) bool) {
		for key, value := range kvs {
			put, sealed, err := c.putRequest(ctx, key, bytes.Clone(value), o.put)
			if err != nil {
				err = fail(op, key, err)
			}
			if !yield(loadPut{put: put, sealed: sealed}, err) {
				return
			}
		}
	}, o)
	o.put.tellRevision(report.Revision)
	return report, err
}

// loadPut is one put of a load, in the form of the wire.
type loadPut struct {
	put    *pb.PutRequest
	sealed *sealedPut // of put; nil for none
	// guard is the condition for the put; nil means none. A put whose condition does not
	// hold counts as applied, and as skipped.
	guard *pb.Compare
}

// load does the work of BulkLoad for puts that are made elsewhere. An error of the
// sequence ends the load and is returned as it is, unless an earlier put failed. load
// only uses the chunks and the progress of o.
func (c *Client) load(ctx context.Context, op string, puts iter.Seq2[loadPut, error], o bulkOptions) (LoadReport, error) {
	if err := c.admit(ctx); err != nil {
		return LoadReport{}, fail(op, "", err)
	}
	l := loader{progress: o.progress}
	chunks := c.newChunker(request{op: op, write: true}, o.chunks, l.add)
	chunks.repeats = true
	err := chunks.run(ctx, func(yield func(operation, error) bool) {
		for p, err := range puts {
			var next operation
			if err == nil {
				key := c.visible(p.put.Key)
				if next, err = c.operation(key, p.wire(), p.sealed); err != nil {
					err = fail(op, key, err)
				}
			}
			if !yield(next, err) {
				return
			}
		}
	})
	return l.report, l.failure(err)
}

// wire returns the put as an operation of a transaction: a nested one if it has a guard,
// so that each guard is decided by itself.
func (p loadPut) wire() *pb.RequestOp {
	put := txntree.Put(p.put)
	if p.guard == nil {
		return put
	}
	txn := &pb.TxnRequest{Compare: []*pb.Compare{p.guard}, Success: []*pb.RequestOp{put}}
	if p.sealed != nil && len(p.put.Value) < chunkBytes { // to recognize one that was sent twice
		txn.Failure = []*pb.RequestOp{txntree.Range(&pb.RangeRequest{Key: p.put.Key, KeysOnly: true})}
	}
	return txntree.Txn(txn)
}

// loader reports on a load.
type loader struct {
	progress func(LoadReport)
	report   LoadReport
	failed   bool
	beyond   bool // something that the report doesn't count may be stored
}

func (l *loader) add(p part) {
	if p.err != nil || l.failed {
		l.failed = true
		l.beyond = l.beyond || p.err == nil || !p.unsent && MaybeApplied(p.err)
		return
	}
	l.report.Applied += int64(len(p.ops))
	l.report.Revision = max(l.report.Revision, p.revision)
	for i, op := range p.ops {
		put := op.wire.GetRequestPut()
		if txn := op.wire.GetRequestTxn(); txn != nil {
			put = txn.Success[0].GetRequestPut()
			if !p.responses[i].GetResponseTxn().GetSucceeded() {
				l.report.skipped++
			}
		}
		l.report.Bytes += int64(len(put.Key) + len(put.Value))
	}
	if l.progress != nil {
		l.progress(l.report)
	}
}

// failure returns the error of a load that failed with err. It is about everything that
// the report doesn't count, so that [Client.Settle] can't take it for the error of one
// chunk.
func (l *loader) failure(err error) error {
	first, ok := errors.AsType[*Error](err)
	if !ok || !l.beyond {
		return err
	}
	return &Error{Op: first.Op, Key: first.Key, Sent: true, MaybeApplied: true, Err: first.Err}
}
