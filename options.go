package etcd

import (
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// LeaseID identifies a lease. Zero means no lease.
type LeaseID int64

// String returns the ID in hexadecimal, as etcdctl prints it.
func (id LeaseID) String() string { return fmt.Sprintf("%016x", int64(id)) }

// Format implements [fmt.Formatter]: %s, %v and %q print String, every other verb
// prints the number.
func (id LeaseID) Format(f fmt.State, verb rune) {
	if verb == 's' || verb == 'q' || verb == 'v' && !f.Flag('#') {
		_, _ = fmt.Fprintf(f, fmt.FormatString(f, verb), id.String())
		return
	}
	_, _ = fmt.Fprintf(f, fmt.FormatString(f, verb), int64(id))
}

// PutOption changes a single put: [Client.Put], [OpPut] and their neighbours. They are
// [WithLease], [WithIgnoreLease], [WithResult], [WithPrevKV] and, where the call says
// so, [WithGuard].
type PutOption interface{ applyPut(*putOptions) }

// AnyPutOption is an option for single puts, bulk puts and loads: [WithLease] and
// [WithIgnoreLease].
type AnyPutOption interface {
	PutOption
	BulkPutOption
	LoadOption
}

// GetOption changes a single read or list: [Client.Get], [Client.List], [OpGet] and
// their neighbours. They are [WithRevision], [WithSerializable] and [WithLimit].
type GetOption interface{ applyGet(*getOptions) }

// ReadOption is an option for single reads and for scans: [WithSerializable],
// [WithLimit] and, as a [RevisionOption], [WithRevision].
type ReadOption interface {
	GetOption
	ScanOption
}

// DeleteOption changes the deletion of one key: [Client.Delete],
// [Client.CompareAndDelete], [OpDelete] and their neighbours. They are [WithResult] and
// [WithPrevKV].
type DeleteOption interface{ applyDelete(*deleteOptions) }

// DeletePrefixOption changes [Client.DeletePrefix], [OpDeletePrefix] and
// [OpDeleteRange]: [WithAllKeys] and, for the first of them, [InChunks] and
// [WithResult].
type DeletePrefixOption interface{ applyDeletePrefix(*deleteOptions) }

// UpdateOption changes a [Client.Update]: [WithResult] and [WithPrevKV].
type UpdateOption interface{ applyUpdate(*writeOptions) }

// WatchOption changes [Client.Watch], [Client.WatchPrefix] and [Typed.Watch]. They are
// [WithRevision], [WithPrevKV], [WithProgressNotify], [WithWatchStatus], [WithOnly] and
// [WithAllKeys].
type WatchOption interface{ applyWatch(*watchOptions) }

type putOptions struct {
	writeOptions
	lease       LeaseID
	ignoreLease bool
	guarded     bool
}

func putOptionsOf(opts []PutOption) (putOptions, error) {
	if len(opts) == 0 {
		return putOptions{}, nil // the common case; below, o is moved to the heap
	}
	var o putOptions
	err := optionsOf(opts, &o, PutOption.applyPut)
	return o, err
}

type getOptions struct {
	revision     int64
	serializable bool
	limit        int64
}

func getOptionsOf(opts []GetOption) (getOptions, error) {
	if len(opts) == 0 {
		return getOptions{}, nil // the common case; below, o is moved to the heap
	}
	var o getOptions
	if err := optionsOf(opts, &o, GetOption.applyGet); err != nil {
		return o, err
	}
	return o, o.check()
}

func (o getOptions) check() error {
	if o.revision < 0 || o.limit < 0 {
		return fmt.Errorf("%w: negative revision or limit", ErrInvalidArgument)
	}
	return nil
}

// rangeRequest returns the read of r with these options.
func (o getOptions) rangeRequest(r keyRange) *pb.RangeRequest {
	return &pb.RangeRequest{Key: r.start, RangeEnd: r.end, Revision: o.revision, Serializable: o.serializable, Limit: o.limit}
}

type deleteOptions struct {
	writeOptions
	allKeys bool
	chunked bool
	chunks  chunkOptions
}

type watchOptions struct {
	revision int64
	prevKV   bool
	progress bool
	noPut    bool
	noDelete bool
	allKeys  bool
	status   bool
}

type leaseOption LeaseID

func (l leaseOption) applyPut(o *putOptions)      { o.lease = LeaseID(l) }
func (l leaseOption) applyBulkPut(o *bulkOptions) { l.applyPut(&o.put) }
func (l leaseOption) applyLoad(o *bulkOptions)    { l.applyPut(&o.put) }

// WithLease attaches the key to a lease: it is deleted when the lease ends. A
// put without it detaches the key from the lease that it had.
func WithLease(id LeaseID) AnyPutOption { return leaseOption(id) }

type ignoreLeaseOption struct{}

func (ignoreLeaseOption) applyPut(o *putOptions)        { o.ignoreLease = true }
func (i ignoreLeaseOption) applyBulkPut(o *bulkOptions) { i.applyPut(&o.put) }
func (i ignoreLeaseOption) applyLoad(o *bulkOptions)    { i.applyPut(&o.put) }

// WithIgnoreLease keeps the lease that the key has. The key must exist, else
// the put fails with [ErrKeyNotFound].
func WithIgnoreLease() AnyPutOption { return ignoreLeaseOption{} }

type guardOption struct{}

func (guardOption) applyPut(o *putOptions) { o.guarded = true }

// WithGuard makes it safe to send a put again when its answer is lost, so that what
// passes, such as a change of the leader, is survived and not reported. The put is
// bound to the mod revision of the key: that is read first, in a second round trip,
// and a request that comes too late or once too often finds another one. A put that
// a concurrent change of the key comes before is bound anew; it fails with
// [ErrConflict] when the key still keeps changing at the deadline.
//
// The absence of a key can't be told from its absence after a deletion, so that the
// creation of a key is sent once. If its answer is lost it is looked for, as
// [Client.Settle] does; without encryption what is found may be somebody else's, so
// that the put fails and [MaybeApplied] is true.
//
// [Client.Put], [Client.PutWithLease] and [Typed.Put] take it. Other calls refuse it
// with [ErrInvalidArgument]: a comparison is guarded already, see [Client.Settle].
func WithGuard() PutOption { return guardOption{} }

type revisionOption int64

func (r revisionOption) applyGet(o *getOptions)       { o.revision = int64(r) }
func (r revisionOption) applyScan(o *scanOptions)     { o.revision = int64(r) }
func (r revisionOption) applyExport(o *exportOptions) { o.revision = int64(r) }
func (r revisionOption) applyWatch(o *watchOptions)   { o.revision = int64(r) }

// RevisionOption is an option for reads, scans, exports and watches: [WithRevision].
type RevisionOption interface {
	ReadOption
	ExportOption
	WatchOption
}

// WithRevision reads the keys as they were at a revision, or starts a watch with
// the events of that revision. Zero means now. A revision that was compacted is
// [ErrCompacted], a read of one that does not exist yet [ErrFutureRevision].
func WithRevision(revision int64) RevisionOption { return revisionOption(revision) }

type serializableOption struct{}

func (serializableOption) applyGet(o *getOptions)   { o.serializable = true }
func (serializableOption) applyScan(o *scanOptions) { o.serializable = true }

// WithSerializable lets any member answer from what it has: faster, served even
// without a quorum, but stale without a bound.
func WithSerializable() ReadOption { return serializableOption{} }

type limitOption int64

func (l limitOption) applyGet(o *getOptions)   { o.limit = int64(l) }
func (l limitOption) applyScan(o *scanOptions) { o.limit = int64(l) }

// WithLimit returns at most the first n keys. Zero means no limit. In a transaction
// the claims of locks count, see [Lock].
func WithLimit(n int64) ReadOption { return limitOption(n) }

type allKeysOption struct{}

func (allKeysOption) applyDeletePrefix(o *deleteOptions) { o.allKeys = true }
func (allKeysOption) applyWatch(o *watchOptions)         { o.allKeys = true }

// AllKeysOption is an option for deletes and for watches: [WithAllKeys].
type AllKeysOption interface {
	DeletePrefixOption
	WatchOption
}

// WithAllKeys says that an empty prefix is meant: every key of the cluster, or
// of the namespace.
func WithAllKeys() AllKeysOption { return allKeysOption{} }

type progressOption struct{}

func (progressOption) applyWatch(o *watchOptions) { o.progress = true }

// WithProgressNotify delivers a response without events every ten minutes (a
// setting of the server) while nothing happens, so that its Revision shows how
// far the watch is known to be complete.
func WithProgressNotify() WatchOption { return progressOption{} }

type filterOption EventType

func (f filterOption) applyWatch(o *watchOptions) {
	if EventType(f) == EventPut {
		o.noDelete = true
	} else {
		o.noPut = true
	}
}

// WithOnly delivers events of one type only.
func WithOnly(t EventType) WatchOption { return filterOption(t) }

// checkTTL converts a time to live to the server's whole seconds, rounding up
// so that a lease never ends before its time.
func checkTTL(ttl time.Duration) (int64, error) {
	seconds := int64(ttl / time.Second)
	if ttl%time.Second > 0 { // adding to ttl could overflow
		seconds++
	}
	return seconds, checkTTLSeconds(seconds)
}

// maxTTLSeconds is the longest time to live that a server accepts
// (server/v3/lease, MaxLeaseTTL): about 285 years.
const maxTTLSeconds = 9_000_000_000

func checkTTLSeconds(seconds int64) error {
	if seconds <= 0 || seconds > maxTTLSeconds {
		return fmt.Errorf("%w: %d seconds, must be from 1 to %d", ErrInvalidTTL, seconds, int64(maxTTLSeconds))
	}
	return nil
}
