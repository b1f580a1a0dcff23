package etcd

// BulkPutOption changes a [Client.BulkPut]: [WithLease], [WithIgnoreLease], [InChunks],
// [WithCondition] and [WithResult].
type BulkPutOption interface{ applyBulkPut(*bulkOptions) }

// BulkDeleteOption changes a [Client.BulkDelete]: [InChunks], [WithCondition] and
// [WithResult].
type BulkDeleteOption interface{ applyBulkDelete(*bulkOptions) }

// LoadOption changes a [Client.BulkLoad]: [WithLease], [WithIgnoreLease],
// [WithParallelism], [WithChunkKeys], [WithKeysPerSecond], [WithLoadProgress],
// [WithCondition] and [WithResult].
type LoadOption interface{ applyLoad(*bulkOptions) }

// bulkOptions are the options of bulk calls and loads.
type bulkOptions struct {
	put      putOptions
	chunked  bool
	chunks   chunkOptions
	progress func(LoadReport)
}

// bulkOptionsOf applies each option by apply.
func bulkOptionsOf[O any](opts []O, apply func(O, *bulkOptions)) (bulkOptions, error) {
	o := bulkOptions{chunks: defaultChunks()}
	if err := optionsOf(opts, &o, apply); err != nil {
		return o, err
	}
	if err := o.put.check(); err != nil {
		return o, err
	}
	return o, o.chunks.check()
}

type loadProgressOption func(LoadReport)

func (f loadProgressOption) applyLoad(o *bulkOptions) { o.progress = f }

// WithLoadProgress calls f whenever the report has changed, in the goroutine of the load.
func WithLoadProgress(f func(LoadReport)) LoadOption {
	if f == nil {
		return nil
	}
	return loadProgressOption(f)
}

// LoadReport says how far [Client.BulkLoad] has got.
type LoadReport struct {
	// Applied is how many key-values are certainly stored, counted from the first without
	// a gap. To resume a failed load, leave out that many.
	Applied int64
	// Bytes is the size of those keys and values as stored.
	Bytes int64
	// Revision is the newest of their revisions. Chunks that were under way together
	// may have been applied in any order.
	Revision int64

	// skipped is how many of Applied were not stored because their guard did not hold.
	skipped int64
}
