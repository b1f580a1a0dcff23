package etcd

import (
	"fmt"
	"slices"
)

// BulkPutOption changes a [Client.BulkPut]: [WithLease], [WithIgnoreLease], [InChunks]
// and [WithResult].
type BulkPutOption interface{ applyBulkPut(*bulkOptions) }

// BulkDeleteOption changes a [Client.BulkDelete]: [InChunks] and [WithResult].
type BulkDeleteOption interface{ applyBulkDelete(*bulkOptions) }

// BulkOption changes any bulk call, and [Client.DeletePrefix]: [InChunks].
type BulkOption interface {
	BulkPutOption
	BulkDeleteOption
	DeletePrefixOption
	applyBulk(*bulkOptions)
}

// LoadOption changes a [Client.BulkLoad]: [WithLease], [WithIgnoreLease],
// [WithParallelism], [WithChunkKeys], [WithKeysPerSecond], [WithLoadProgress] and
// [WithResult].
type LoadOption interface{ applyLoad(*bulkOptions) }

// ChunkOption changes how [InChunks], [Client.BulkLoad] and [Client.Import] cut and
// send chunks: [WithParallelism], [WithChunkKeys] and, as a [RateOption],
// [WithKeysPerSecond].
type ChunkOption interface {
	LoadOption
	ImportOption
	applyChunks(*chunkOptions)
}

// bulkOptions are the options of bulk calls and loads.
type bulkOptions struct {
	put      putOptions
	chunked  bool
	chunks   chunkOptions
	progress func(LoadReport)
}

type chunkOptions struct {
	parallel int
	keys     int
	rate     int // keys a second; 0 means no limit
}

// most returns how many keys a chunk may hold: no more than the rate allows in a
// second.
func (o chunkOptions) most() int {
	if o.rate > 0 {
		return min(o.keys, o.rate)
	}
	return o.keys
}

// ofRanges returns the options for operations that are about a chunk of keys each.
func (o chunkOptions) ofRanges() chunkOptions {
	o.keys = 1
	return o
}

// Defaults of chunks.
const (
	// DefaultParallelism is how many chunks are under way at a time unless
	// [WithParallelism] says otherwise.
	DefaultParallelism = 4

	// DefaultChunkKeys is how many keys a chunk holds at the most unless
	// [WithChunkKeys] says otherwise. A chunk ends earlier at an eighth of a MiB.
	// Chunks of 500 keys store a quarter more in a second, and make those who read
	// and write meanwhile wait more than twice as long.
	DefaultChunkKeys = 128
)

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

func defaultChunks() chunkOptions {
	return chunkOptions{parallel: DefaultParallelism, keys: DefaultChunkKeys}
}

func (o chunkOptions) check() error {
	if o.parallel < 1 || o.keys < 1 || o.rate < 0 {
		return fmt.Errorf("%w: chunks of %d keys, %d at a time, %d keys a second", ErrInvalidArgument, o.keys, o.parallel, o.rate)
	}
	return nil
}

type chunksOption []ChunkOption

func (c chunksOption) applyBulkPut(o *bulkOptions)    { c.applyBulk(o) }
func (c chunksOption) applyBulkDelete(o *bulkOptions) { c.applyBulk(o) }

func (c chunksOption) applyBulk(o *bulkOptions) {
	o.chunked = true
	c.apply(&o.chunks)
}

func (c chunksOption) applyDeletePrefix(o *deleteOptions) {
	o.chunked = true
	c.apply(&o.chunks)
}

func (c chunksOption) apply(o *chunkOptions) {
	for _, opt := range c {
		opt.applyChunks(o)
	}
}

// InChunks gives up atomicity for size: a bulk call of any number of keys is cut
// into chunks, in their order, of which several are under way at a time. Each chunk
// is atomic, in a revision of its own. After one has failed no other is begun; those
// under way are waited for, and the error is a [*BulkError] that says what became of
// each key.
//
// All keys, and values that are too large by themselves, are checked before anything
// is sent. Each chunk has [Config.RequestTimeout], unless ctx has a deadline. A chunk
// that a server refuses for its size, because its limits are lower than those of the
// configuration, is cut further, and those after it are smaller.
func InChunks(opts ...ChunkOption) BulkOption {
	if slices.Contains(opts, nil) {
		return nil // refused as any nil option
	}
	return chunksOption(opts)
}

type parallelismOption int

func (n parallelismOption) applyChunks(o *chunkOptions)  { o.parallel = int(n) }
func (n parallelismOption) applyLoad(o *bulkOptions)     { n.applyChunks(&o.chunks) }
func (n parallelismOption) applyImport(o *importOptions) { n.applyChunks(&o.chunks) }

// WithParallelism sets how many chunks may be under way at a time: 1 or more.
func WithParallelism(n int) ChunkOption { return parallelismOption(n) }

type chunkKeysOption int

func (n chunkKeysOption) applyChunks(o *chunkOptions)  { o.keys = int(n) }
func (n chunkKeysOption) applyLoad(o *bulkOptions)     { n.applyChunks(&o.chunks) }
func (n chunkKeysOption) applyImport(o *importOptions) { n.applyChunks(&o.chunks) }

// WithChunkKeys sets how many keys a chunk may hold: 1 or more.
func WithChunkKeys(n int) ChunkOption { return chunkKeysOption(n) }

func (n rateOption) applyChunks(o *chunkOptions)  { o.rate = int(n) }
func (n rateOption) applyLoad(o *bulkOptions)     { n.applyChunks(&o.chunks) }
func (n rateOption) applyImport(o *importOptions) { n.applyChunks(&o.chunks) }

type loadProgressOption func(LoadReport)

func (f loadProgressOption) applyLoad(o *bulkOptions) { o.progress = f }

// WithLoadProgress calls f whenever the report has changed, in the goroutine of the
// load.
func WithLoadProgress(f func(LoadReport)) LoadOption {
	if f == nil {
		return nil
	}
	return loadProgressOption(f)
}
