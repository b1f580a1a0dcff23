package etcd

import (
	"slices"
)

// ChunkOption changes how [InChunks], [Client.BulkLoad] and [Client.Import] cut and
// send chunks: [WithParallelism], [WithChunkKeys] and, as a [RateOption],
// [WithKeysPerSecond].
type ChunkOption interface {
	LoadOption
	ImportOption
	applyChunks(*chunkOptions)
}

// BulkOption changes any bulk call, and [Client.DeletePrefix]: [InChunks].
type BulkOption interface {
	BulkPutOption
	BulkDeleteOption
	DeletePrefixOption
	applyBulk(*bulkOptions)
}

// InChunks gives up atomicity for size: a bulk call of any number of keys is cut into
// chunks, in order, and several chunks are under way at a time. Each chunk is atomic, in
// a revision of its own. After one has failed no further one begins; those under way are
// waited for, and the error is a [*BulkError] that says what became of each key.
//
// All keys, and values that are too large by themselves, are checked before anything is
// sent. Each chunk has [Config.RequestTimeout], unless ctx has a deadline. If a server
// refuses a chunk for its size, because its limits are lower than the configured ones,
// the chunk is cut further, and later ones are smaller.
func InChunks(opts ...ChunkOption) BulkOption {
	if slices.Contains(opts, nil) {
		return nil // refused like any nil option
	}
	return chunksOption(opts)
}

// WithChunkKeys sets how many keys a chunk may hold: 1 or more.
func WithChunkKeys(n int) ChunkOption { return chunkKeysOption(n) }

// WithParallelism sets how many chunks may be under way at a time: 1 or more.
func WithParallelism(n int) ChunkOption { return parallelismOption(n) }

type chunksOption []ChunkOption

func (c chunksOption) apply(o *chunkOptions) {
	for _, opt := range c {
		opt.applyChunks(o)
	}
}

func (c chunksOption) applyBulk(o *bulkOptions) {
	o.chunked = true
	c.apply(&o.chunks)
}

func (c chunksOption) applyBulkDelete(o *bulkOptions) { c.applyBulk(o) }

func (c chunksOption) applyBulkPut(o *bulkOptions) { c.applyBulk(o) }

func (c chunksOption) applyDeletePrefix(o *deleteOptions) {
	o.chunked = true
	c.apply(&o.chunks)
}

type chunkKeysOption int

func (n chunkKeysOption) applyChunks(o *chunkOptions) { o.keys = int(n) }

func (n chunkKeysOption) applyImport(o *importOptions) { n.applyChunks(&o.chunks) }

func (n chunkKeysOption) applyLoad(o *bulkOptions) { n.applyChunks(&o.chunks) }

type parallelismOption int

func (n parallelismOption) applyChunks(o *chunkOptions) { o.parallel = int(n) }

func (n parallelismOption) applyImport(o *importOptions) { n.applyChunks(&o.chunks) }

func (n parallelismOption) applyLoad(o *bulkOptions) { n.applyChunks(&o.chunks) }

type rateOption int

func (n rateOption) applyChunks(o *chunkOptions) { o.rate = int(n) }

func (n rateOption) applyImport(o *importOptions) { n.applyChunks(&o.chunks) }

func (n rateOption) applyLoad(o *bulkOptions) { n.applyChunks(&o.chunks) }

func (n rateOption) applyReencrypt(o *reencryptOptions) { o.rate = int(n) }

// RateOption is an option for passes over many keys, [Client.Reencrypt] and every call
// that sends chunks: [WithKeysPerSecond].
type RateOption interface {
	ReencryptOption
	ChunkOption
}

// WithKeysPerSecond limits the keys written or deleted per second, so that others are
// held up less; no chunk or batch holds more than that either. Zero, the default, means
// no limit.
func WithKeysPerSecond(n int) RateOption { return rateOption(n) }
