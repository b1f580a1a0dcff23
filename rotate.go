package etcd

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// Batches of Reencrypt: a server takes 127 guarded puts nested in one
// transaction of 128 operations; about 1 MiB stays well under the limit of a
// request.
const (
	rewriteBytes = 1 << 20
	rewriteRead  = 4 << 20
)

// maxReported bounds the errors that a report lists; all are counted.
const maxReported = 100

// ReencryptReport says what [Client.Reencrypt] has done so far.
type ReencryptReport struct {
	// Scanned is how many keys were looked at.
	Scanned int64
	// Stale is how many of them were not encrypted with the primary key: with
	// another one, by the Blueprint provider, or not at all.
	Stale int64
	// Rewritten is how many stale values are now encrypted with the primary key;
	// with [WithDryRun], how many would be.
	Rewritten int64
	// Conflicts is how many stale values were changed or deleted by another
	// client before they could be rewritten. The other client's value stands.
	Conflicts int64
	// Undecodable is how many values could not be decoded. They are left as they
	// are.
	Undecodable int64
	// Errors holds a [*DecodeError] for each of the first hundred of those.
	Errors []*DecodeError
	// Next is the key to resume from with [WithResumeAt]; empty when the pass is
	// complete.
	Next string
}

// ReencryptOption changes [Client.Reencrypt].
type ReencryptOption func(*reencryption)

// WithProgress calls f after each batch, in the goroutine of Reencrypt.
func WithProgress(f func(ReencryptReport)) ReencryptOption {
	return func(r *reencryption) { r.progress = f }
}

// WithResumeAt begins at a key: the Next of an earlier report.
func WithResumeAt(key string) ReencryptOption {
	return func(r *reencryption) { r.resume = key }
}

// WithKeysPerSecond limits the keys that are rewritten per second. Zero, the
// default, means no limit.
func WithKeysPerSecond(n int) ReencryptOption {
	return func(r *reencryption) { r.rate = n }
}

// WithDryRun counts what would be done and writes nothing.
func WithDryRun() ReencryptOption {
	return func(r *reencryption) { r.dryRun = true }
}

// Reencrypt encrypts every value under prefix anew that is not encrypted with the
// keyring's primary key. The empty prefix means all keys.
//
// It loses nothing: each value is replaced only if it is still the one that was
// read, keeps its lease, and a deleted key stays deleted. It can be cancelled at
// any point, goes on where it stopped with [WithResumeAt], and can be run again at
// any time. Values that can't be decoded are reported and left as they are.
//
// It works in batches of up to 127 keys in one transaction. A pass that began
// after every instance had the new primary, and that reports no stale value and no
// conflict, proves that no value of an older key is left; see
// [Client.EncryptionStatus].
func (c *Client) Reencrypt(ctx context.Context, prefix string, opts ...ReencryptOption) (ReencryptReport, error) {
	const op = "reencrypt"
	r := &reencryption{client: c}
	for _, opt := range opts {
		opt(r)
	}
	err := c.admit(ctx)
	switch {
	case err != nil:
	case !c.codec.encrypts():
		err = fmt.Errorf("%w: the client does not encrypt", ErrInvalidArgument)
	case c.codec.keyring.keys.Load().primary == nil:
		err = ErrNoPrimaryKey
	case r.rate < 0:
		err = fmt.Errorf("%w: negative rate", ErrInvalidArgument)
	}
	if err != nil {
		return ReencryptReport{}, fail(op, prefix, err)
	}
	err = r.run(ctx, op, prefix)
	return r.report, err
}

// reencryption is one run of Reencrypt.
type reencryption struct {
	client   *Client
	progress func(ReencryptReport)
	resume   string
	rate     int
	dryRun   bool
	report   ReencryptReport
	batch    []*pb.RequestOp
	size     int
}

func (r *reencryption) run(ctx context.Context, op, prefix string) error {
	c := r.client
	keys, err := c.prefixRange(prefix)
	if err == nil && r.resume != "" {
		keys.start, err = c.stored(r.resume)
	}
	if err != nil {
		return fail(op, prefix, err)
	}
	// Not at one revision: the pass may outlive it, and every rewrite is bound to
	// the revision of its key anyway.
	pages := c.newPager(request{op: op, key: prefix}, keys, pagerOptions{bytes: rewriteRead})
	for pages.more() {
		page, err := pages.read(ctx)
		if err != nil {
			return err
		}
		for _, kv := range page {
			if err := r.take(ctx, op, kv); err != nil {
				return err
			}
		}
		if err := r.flush(ctx, op); err != nil {
			return err
		}
	}
	r.report.Next = ""
	r.tell()
	return nil
}

// take looks at one key and puts it into the batch if it has to be rewritten.
func (r *reencryption) take(ctx context.Context, op string, kv *mvccpb.KeyValue) error {
	c := r.client
	key := c.visible(kv.Key)
	if len(r.batch) == 0 {
		r.report.Next = key // all before it is done
	}
	r.report.Scanned++
	if !c.codec.stale(kv.Key, kv.Value) {
		return nil
	}
	r.report.Stale++
	value, err := c.codec.decode(ctx, kv.Key, kv.Value)
	if err != nil {
		if ctx.Err() != nil {
			return fail(op, key, contextError(ctx))
		}
		r.report.Undecodable++
		if len(r.report.Errors) < maxReported {
			r.report.Errors = append(r.report.Errors, &DecodeError{Key: key, Err: err})
		}
		return nil
	}
	encoded, err := c.codec.seal(kv.Key, value)
	if err != nil {
		return fail(op, key, err)
	}
	if len(r.batch) > 0 && r.size+len(kv.Key)+len(encoded) > rewriteBytes || len(r.batch) >= c.cfg.MaxTxnOps-1 {
		if err := r.flush(ctx, op); err != nil {
			return err
		}
		r.report.Next = key
	}
	r.size += len(kv.Key) + len(encoded)
	r.batch = append(r.batch, rewriteOp(kv, encoded))
	return nil
}

// rewriteOp replaces a value if it is still the one that was read. It is a nested
// transaction of its own, so that one key's change does not hold up the others.
func rewriteOp(kv *mvccpb.KeyValue, encoded []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: kv.Key, Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: kv.ModRevision},
		}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{
			Key: kv.Key, Value: encoded, IgnoreLease: true,
		}}}},
	}}}
}

// flush sends the batch.
func (r *reencryption) flush(ctx context.Context, op string) error {
	n := len(r.batch)
	if n == 0 {
		r.tell()
		return nil
	}
	began := time.Now()
	if r.dryRun {
		r.report.Rewritten += int64(n)
	} else {
		resp, err := r.client.sendTxn(ctx, request{op: op, key: r.report.Next, write: true}, &pb.TxnRequest{Success: r.batch})
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
	}
	r.batch, r.size = r.batch[:0], 0
	r.tell()
	if r.rate == 0 {
		return nil
	}
	wait := time.Duration(n)*time.Second/time.Duration(r.rate) - time.Since(began)
	if wait > 0 && !pause(ctx, r.client.closing, wait) {
		if r.client.isClosed() {
			return fail(op, "", ErrClosed)
		}
		return fail(op, "", contextError(ctx))
	}
	return nil
}

func (r *reencryption) tell() {
	if r.progress != nil {
		r.progress(r.report)
	}
}

// stale reports whether a stored value is not what this client would write: it is
// not encrypted with the primary key.
func (c *codec) stale(storedKey, stored []byte) bool {
	if under(c.excluded, storedKey) {
		return false
	}
	id, encrypted := envelope.KeyIDOf(stored)
	primary := c.keyring.keys.Load().primary
	return !encrypted || primary == nil || id != primary.ID()
}

// EncryptionStatus says how the values under a prefix are stored, at one
// revision.
type EncryptionStatus struct {
	// Revision is the revision at which all were looked at.
	Revision int64
	// Total is the number of keys.
	Total int64
	// ByKey counts the values by the key that encrypted them.
	ByKey map[KeyID]int64
	// Legacy counts the values of the Blueprint provider that the legacy key
	// opens.
	Legacy int64
	// Plaintext counts the values without encryption, compressed or not.
	Plaintext int64
	// Unencrypted counts the values under prefixes that are meant to be without
	// encryption, see [Config.UnencryptedPrefixes].
	Unencrypted int64
	// Unreadable counts the values with the frame of the format that are damaged
	// or of a later version.
	Unreadable int64
}

// EncryptionStatus looks at every value under prefix, all at one revision, and
// counts them by their encryption. It decrypts none: it reads the header, which
// tells the key but is only proven by reading the value. The empty prefix means
// all keys.
func (c *Client) EncryptionStatus(ctx context.Context, prefix string) (EncryptionStatus, error) {
	const op = "encryption status"
	keys, err := c.prefixRange(prefix)
	if err != nil {
		return EncryptionStatus{}, fail(op, prefix, err)
	}
	out := EncryptionStatus{ByKey: map[KeyID]int64{}}
	pages := c.newPager(request{op: op, key: prefix}, keys, pagerOptions{bytes: rewriteRead, pinned: true})
	for pages.more() {
		page, err := pages.read(ctx)
		if err != nil {
			return EncryptionStatus{}, err
		}
		for _, kv := range page {
			out.count(c.codec, kv)
		}
	}
	out.Revision = pages.revision
	return out, nil
}

func (s *EncryptionStatus) count(c *codec, kv *mvccpb.KeyValue) {
	s.Total++
	suite, err := envelope.SuiteOf(kv.Value)
	id, encrypted := envelope.KeyIDOf(kv.Value)
	switch {
	case under(c.excluded, kv.Key):
		s.Unencrypted++
	case encrypted:
		s.ByKey[KeyID(id)]++
	case err == nil && suite == envelope.NoSuite:
		s.Plaintext++
	case envelope.IsEnvelope(kv.Value):
		s.Unreadable++
	case c.isLegacy(kv.Value):
		s.Legacy++
	default:
		s.Plaintext++
	}
}
