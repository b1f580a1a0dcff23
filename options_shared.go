package etcd

// AnyPutOption is an option for single puts, bulk puts and loads: [WithLease] and
// [WithIgnoreLease].
type AnyPutOption interface {
	PutOption
	BulkPutOption
	LoadOption
}

// ReadOption is an option for single reads and for scans: [WithSerializable],
// [WithLimit] and, as a [RevisionOption], [WithRevision].
type ReadOption interface {
	GetOption
	ScanOption
}

type leaseOption LeaseID

func (l leaseOption) applyBulkPut(o *bulkOptions) { l.applyPut(&o.put) }

func (l leaseOption) applyLoad(o *bulkOptions) { l.applyPut(&o.put) }

func (l leaseOption) applyPut(o *putOptions) { o.lease = LeaseID(l) }

// WithLease attaches the key to a lease: it is deleted when the lease ends. A put without
// it detaches the key from its lease.
func WithLease(id LeaseID) AnyPutOption { return leaseOption(id) }

type ignoreLeaseOption struct{}

func (i ignoreLeaseOption) applyBulkPut(o *bulkOptions) { i.applyPut(&o.put) }

func (i ignoreLeaseOption) applyLoad(o *bulkOptions) { i.applyPut(&o.put) }

func (ignoreLeaseOption) applyPut(o *putOptions) { o.ignoreLease = true }

// WithIgnoreLease keeps the key's lease. The key must exist, otherwise the put fails with
// [ErrKeyNotFound].
func WithIgnoreLease() AnyPutOption { return ignoreLeaseOption{} }

type revisionOption int64

func (r revisionOption) applyExport(o *exportOptions) { o.revision = int64(r) }

func (r revisionOption) applyGet(o *getOptions) { o.revision = int64(r) }

func (r revisionOption) applyScan(o *scanOptions) { o.revision = int64(r) }

func (r revisionOption) applyWatch(o *watchOptions) { o.revision = int64(r) }

// RevisionOption is an option for reads, scans, exports and watches: [WithRevision].
type RevisionOption interface {
	ReadOption
	ExportOption
	WatchOption
}

// WithRevision reads the keys as they were at a revision, or starts a watch with the
// events of that revision. Zero means now. A compacted revision fails with
// [ErrCompacted]; reading one that does not exist yet fails with [ErrFutureRevision].
func WithRevision(revision int64) RevisionOption { return revisionOption(revision) }

type serializableOption struct{}

func (serializableOption) applyGet(o *getOptions) { o.serializable = true }

func (serializableOption) applyScan(o *scanOptions) { o.serializable = true }

// WithSerializable lets any member answer from its own data: faster, and served even
// without a quorum, but the answer may be stale without bound.
func WithSerializable() ReadOption { return serializableOption{} }

type limitOption int64

func (l limitOption) applyGet(o *getOptions) { o.limit = int64(l) }

func (l limitOption) applyScan(o *scanOptions) { o.limit = int64(l) }

// WithLimit returns at most the first n keys. Zero means no limit. In a transaction the
// claims of locks count too, see [Lock].
func WithLimit(n int64) ReadOption { return limitOption(n) }

type allKeysOption struct{}

func (allKeysOption) applyDeletePrefix(o *deleteOptions) { o.allKeys = true }

func (allKeysOption) applyWatch(o *watchOptions) { o.allKeys = true }

// AllKeysOption is an option for deletes and for watches: [WithAllKeys].
type AllKeysOption interface {
	DeletePrefixOption
	WatchOption
}

// WithAllKeys says that you mean an empty prefix: every key of the cluster, or of the
// namespace.
func WithAllKeys() AllKeysOption { return allKeysOption{} }

// RewriteOption is an option for passes over many keys, [Client.Reencrypt] and
// [Client.Import]: [WithDryRun] and [WithResumeAt].
type RewriteOption interface {
	ReencryptOption
	ImportOption
}

// WithDryRun counts what would be done and writes nothing. An import sends nothing at
// all: it checks the file, and that this client can write its contents.
func WithDryRun() RewriteOption { return dryRunOption{} }

type dryRunOption struct{}

func (dryRunOption) applyReencrypt(o *reencryptOptions) { o.dryRun = true }

func (dryRunOption) applyImport(o *importOptions) { o.dryRun = true }

// WithResumeAt begins at a key: the Next of an earlier report on the same prefix or
// file. The empty key means the beginning.
func WithResumeAt(key string) RewriteOption { return resumeOption(key) }

type resumeOption string

func (k resumeOption) applyReencrypt(o *reencryptOptions) { o.resume = string(k) }

func (k resumeOption) applyImport(o *importOptions) { o.resume = string(k) }
