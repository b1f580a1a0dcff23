package etcd

import (
	"fmt"
)

type chunkOptions struct {
	parallel int
	keys     int
	rate     int // keys a second; 0 means no limit
}

func (o chunkOptions) check() error {
	if o.parallel < 1 || o.keys < 1 || o.rate < 0 {
		return fmt.Errorf("%w: chunks of %d keys, %d at a time, %d keys a second", ErrInvalidArgument, o.keys, o.parallel, o.rate)
	}
	return nil
}

// most returns how many keys a chunk may hold: at most as many as the rate allows in a
// second.
func (o chunkOptions) most() int {
	if o.rate > 0 {
		return min(o.keys, o.rate)
	}
	return o.keys
}

// ofRanges returns the options for operations of which each is about a chunk of keys.
func (o chunkOptions) ofRanges() chunkOptions {
	o.keys = 1
	return o
}

func defaultChunks() chunkOptions {
	return chunkOptions{parallel: DefaultParallelism, keys: DefaultChunkKeys}
}

// Defaults of chunks.
const (
	// DefaultParallelism is how many chunks are under way at a time unless
	// [WithParallelism] says otherwise.
	DefaultParallelism = 4

	// DefaultChunkKeys is how many keys a chunk holds at most unless [WithChunkKeys] says
	// otherwise. A chunk ends earlier at an eighth of a MiB. Chunks of 500 keys would
	// store a quarter more per second, and make others who read and write wait more than
	// twice as long.
	DefaultChunkKeys = 128
)
