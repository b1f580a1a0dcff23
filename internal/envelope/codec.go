package envelope

import (
	"encoding/binary"
	"sync"
)

const (
	defaultMaxSize  = 16 << 20 // ten times what an etcd server takes in a request by default
	greatestMaxSize = 1 << 30  // fits an int everywhere, with room to spare
)

// Params configures a [Codec]. The zero value encrypts without a context and does not compress.
type Params struct {
	// Context is authenticated with every encrypted value and not stored: a value written under one context does not
	// open under another. Empty by default.
	Context []byte

	// CompressMin is the least length in bytes from which a value is compressed. 0, the default, or less means never.
	// Compressed values are read regardless.
	CompressMin int

	// MaxSize is the length in bytes up to which a compressed value is decompressed; a longer one fails with
	// ErrValueTooLarge. 0, the default, or less means 16 MiB; more than 1 GiB means 1 GiB. Longer values are written
	// uncompressed.
	MaxSize int
}

// Codec turns values into stored values and back. Make one with [NewCodec]. Safe for concurrent use by multiple
// goroutines; it starts none and needs no closing.
type Codec struct {
	context     []byte // uint32(length) ‖ context: the part of the associated data that never changes
	compressMin int
	maxSize     int
}

// NewCodec makes a codec. It keeps a copy of the context.
func NewCodec(p Params) *Codec {
	context := binary.BigEndian.AppendUint32(nil, uint32(len(p.Context)))
	c := &Codec{
		context:     append(context, p.Context...),
		compressMin: p.CompressMin,
		maxSize:     p.MaxSize,
	}
	if c.maxSize <= 0 {
		c.maxSize = defaultMaxSize
	}
	c.maxSize = min(c.maxSize, greatestMaxSize)
	return c
}

// associatedData appends value[0:24] ‖ uint32(len(context)) ‖ context ‖ etcd key to dst.
func (c *Codec) associatedData(dst, header []byte, etcdKey string) []byte {
	dst = append(dst, header...)
	dst = append(dst, c.context...)
	return append(dst, etcdKey...)
}

// scratch lends buffers for associated data and compressed payloads. The ciphers and the compressor take these as
// slices, which would otherwise be allocated for each value.
var scratch = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 256)} }}

type buffer struct{ b []byte }

func borrow() *buffer { return scratch.Get().(*buffer) }

// release gives the buffer back, unless it has grown unusually large.
func (b *buffer) release() {
	const keep = 2 << 20
	if cap(b.b) <= keep {
		b.b = b.b[:0]
		scratch.Put(b)
	}
}
