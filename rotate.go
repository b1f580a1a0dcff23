package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/blueprint-go/etcd/internal/envelope"
	"github.com/blueprint-go/etcd/internal/errs"
	"github.com/blueprint-go/etcd/internal/keys"
	"github.com/blueprint-go/etcd/internal/txntree"
)

const (
	// rewriteBytes is about how much one batch of Reencrypt sends: well below the limit
	// of a request, and far past the size from which more would be faster.
	rewriteBytes = 1 << 20
	rewriteRead  = 4 << 20

	// rewriteFraming is the most that protobuf adds to one operation of a
	// transaction: a tag, and a length below 2^28.
	rewriteFraming = 5
)

// Reencrypt encrypts every value under prefix anew that is not encrypted with the
// keyring's primary key and its suite. The empty prefix means all keys. It leaves values
// alone that are meant to be unencrypted, by [Config.UnencryptedPrefixes] or
// [Config.PlaintextWrites]. The value of the leader of an [Election] is encrypted anew like any
// other, in place: the leadership, its Token and its Guard stay. The records of claims, which say
// whose a lock is ([Lock.Queue]), are left as they are.
//
// It loses nothing: it replaces a value only if that is still the one it read, the key
// keeps its lease, and a deleted key stays deleted. It can be cancelled at any point,
// continues where it stopped with [WithResumeAt], and can be run again at any time.
// Values that can't be decoded are reported and left as they are.
//
// It works in batches of up to 127 keys in one transaction; watchers see each batch as
// one revision. A pass that reports no stale value and no conflict proves that no value
// of an older key is left, and that none will be stored, provided it began after every
// instance had the new primary key and the requests under way at that moment had ended:
// later requests are encrypted with the new key, whenever their call began. For what else
// could store one see [Client.EncryptionStatus].
//
// With a [StoredKeyring] it reads the stored ring first, so that the pass begins with the
// newest primary key, and fails while that is not the ring of this process, see
// [StoredKeyring.Err].
//
// When it fails, the report says what was done before. It fails with [ErrInvalidArgument]
// for a client without encryption, and with [ErrNoPrimaryKey] for one without a primary
// key.
func (c *Client) Reencrypt(ctx context.Context, prefix string, opts ...ReencryptOption) (ReencryptReport, error) {
	r := &reencryption{client: c}
	var rng keys.Range
	err := optionsOf(opts, &r.options, ReencryptOption.applyReencrypt)
	if err == nil {
		r.pacer.rate = r.options.rate
		rng, err = r.check(ctx, prefix)
	}
	if err == nil {
		err = c.codec.keyring.upToDate(ctx)
	}
	if err != nil {
		return ReencryptReport{}, fail(opReencrypt, prefix, err)
	}
	err = r.run(ctx, prefix, rng)
	return r.report, err
}

// reencryption is one run of Reencrypt.
type reencryption struct {
	client  *Client
	options reencryptOptions

	report ReencryptReport
	batch  []*pb.RequestOp
	size   int
	seals  *sealedPut // of the batch
	pacer  pacer
}

// check returns what the run is about, or why it can't begin.
func (r *reencryption) check(ctx context.Context, prefix string) (keys.Range, error) {
	c := r.client
	err := c.admit(ctx)
	switch {
	case err != nil:
		return keys.Range{}, err
	case !c.codec.encrypts():
		return keys.Range{}, fmt.Errorf("%w: the client does not encrypt", ErrInvalidArgument)
	case c.codec.keyring.current().primary == nil:
		return keys.Range{}, ErrNoPrimaryKey
	case r.options.rate < 0:
		return keys.Range{}, fmt.Errorf("%w: negative rate", ErrInvalidArgument)
	case r.options.resume == "":
		r.options.resume = prefix
	case !strings.HasPrefix(r.options.resume, prefix):
		return keys.Range{}, fmt.Errorf("%w: key to resume at is not under the prefix", ErrInvalidArgument)
	}
	r.report.Next = r.options.resume
	rng, err := c.prefixRange(prefix)
	if err == nil && r.options.resume != prefix {
		rng.Start, err = c.storedBound(r.options.resume)
	}
	return rng, err
}

func (r *reencryption) run(ctx context.Context, prefix string, rng keys.Range) error {
	// Not at one revision: the pass may outlive it, and every rewrite is bound to the
	// revision of its key anyway.
	pages := r.client.newPager(request{op: opReencrypt, key: prefix}, rng, pagerOptions{bytes: rewriteRead, leaders: true})
	for pages.more() {
		page, err := pages.read(ctx)
		if err != nil {
			return err
		}
		for _, kv := range page {
			if err := r.take(ctx, kv); err != nil {
				return err
			}
		}
		next := ""
		if pages.more() {
			next = r.client.visible(pages.next.Key)
		}
		if err := r.flush(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// take looks at one key, and puts it into the batch if it has to be rewritten.
func (r *reencryption) take(ctx context.Context, kv *mvccpb.KeyValue) error {
	c, key := r.client, r.client.visible(kv.Key)
	r.report.Scanned++
	if !c.codec.stale(kv.Key, kv.Value) {
		return nil
	}
	r.report.Stale++
	value, err := c.codec.decode(ctx, kv.Key, kv.Value)
	if err != nil {
		if ctx.Err() != nil { // it may be the reason, through a key provider
			return fail(opReencrypt, key, errs.OfContext(ctx))
		}
		if errors.Is(err, ErrKeyUnavailable) {
			return answered(opReencrypt, key, undecoded(strings.Clone(key), err))
		}
		r.report.Undecodable++
		r.leave(&DecodeError{Key: strings.Clone(key), Err: err})
		return nil
	}
	encoded, sealedBy, err := c.codec.seal(ctx, kv.Key, value)
	if err != nil {
		return fail(opReencrypt, key, err)
	}
	sealed := &sealedPut{codec: r.client.codec, value: value, key: sealedBy}
	sealed.wire.Key, sealed.wire.Value, sealed.wire.IgnoreLease = kv.Key, encoded, true
	rewrite := rewriteOp(kv, &sealed.wire)
	size := proto.Size(rewrite) + rewriteFraming
	if size > c.rpc.Largest {
		r.report.TooLarge++
		r.leave(fail(opReencrypt, strings.Clone(key), fmt.Errorf("%w: %d bytes when encrypted", ErrTooLarge, len(encoded))))
		return nil
	}
	if r.full(size) {
		if err := r.flush(ctx, key); err != nil {
			return err
		}
	}
	r.batch, r.size, r.seals = append(r.batch, rewrite), r.size+size, sealed.link(r.seals)
	return nil
}

// leave reports a value that stays as it is.
func (r *reencryption) leave(err error) {
	if len(r.report.Errors) < maxReported {
		r.report.Errors = append(r.report.Errors, err)
	}
}

// full reports whether the batch has no room for another rewrite. The server counts the
// operations of a transaction together with those nested in it. That leaves the limit
// less one for operations that hold a put each.
func (r *reencryption) full(size int) bool {
	most := max(r.client.cfg.MaxTxnOps-1, 1)
	if r.options.rate > 0 {
		most = min(most, r.options.rate)
	}
	return len(r.batch) >= most || r.size+size > min(rewriteBytes, r.client.rpc.Largest) && len(r.batch) > 0
}

// rewriteOp replaces a value if it is still the one that was read. It is a nested
// transaction of its own, so that a change of one key does not hold up the others.
func rewriteOp(kv *mvccpb.KeyValue, put *pb.PutRequest) *pb.RequestOp {
	return txntree.Txn(&pb.TxnRequest{
		Compare: []*pb.Compare{txntree.Unchanged(kv.Key, kv.ModRevision)},
		Success: []*pb.RequestOp{txntree.Put(put)},
	})
}

// flush sends the batch, if there is one; after that everything before next is done.
func (r *reencryption) flush(ctx context.Context, next string) error {
	if len(r.batch) > 0 {
		if err := r.send(ctx); err != nil {
			return err
		}
		r.batch, r.size, r.seals = r.batch[:0], 0, nil
	}
	r.report.Next = strings.Clone(next) // a substring would keep the whole page alive
	if r.options.progress != nil {
		r.options.progress(r.report)
	}
	return nil
}

func (r *reencryption) send(ctx context.Context) error {
	if r.options.dryRun {
		r.report.Rewritten += int64(len(r.batch))
		return nil
	}
	if err := r.pace(ctx); err != nil {
		return err
	}
	resp, err := r.client.sendTxn(ctx, request{op: opReencrypt, key: r.report.Next, write: true, seals: r.seals}, &pb.TxnRequest{Success: r.batch})
	if err != nil {
		return err
	}
	for _, one := range resp.Responses {
		if one.GetResponseTxn().GetSucceeded() {
			r.report.Rewritten++
		} else {
			r.report.Conflicts++
		}
	}
	return nil
}

// pace waits until the rate allows the batch.
func (r *reencryption) pace(ctx context.Context) error {
	switch {
	case r.pacer.wait(ctx, r.client.rpc.Closing(), len(r.batch)):
		return nil
	case r.client.rpc.IsClosed():
		return fail(opReencrypt, r.report.Next, ErrClosed)
	default:
		return fail(opReencrypt, r.report.Next, errs.OfContext(ctx))
	}
}

// stale reports whether a stored value is not what this client would write: it is not
// encrypted with the primary key, and not meant to be unencrypted.
func (c *codec) stale(storedKey, stored []byte) bool {
	if under(c.excluded, storedKey) || under(c.plaintextWrites, storedKey) {
		return false
	}
	id, encrypted := envelope.KeyIDOf(stored)
	suite, _ := envelope.SuiteOf(stored)
	primary := c.keyring.current().primary
	return !encrypted || primary == nil || id != primary.ID() || suite != primary.Suite()
}
