package envelope

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// lengthSize is the size of the length before the frame of a compressed payload.
const lengthSize = 4

// Compress frames value as suite 00 if it compresses: that is, if it has at least Params.CompressMin bytes and this
// saves at least an eighth, framing included. Otherwise it returns value itself, unless that begins with the magic:
// then it frames the value uncompressed, so that [Codec.Decompress] returns any value unchanged. The error is always
// nil so far.
func (c *Codec) Compress(value []byte) ([]byte, error) {
	if c.compresses(len(value)) {
		packed := borrow()
		defer packed.release()
		packed.b = header{compression: compressionZstd}.append(packed.b, KeyID{})
		packed.b = appendCompressed(packed.b, value)
		if worthIt(len(packed.b), len(value)) {
			return append(make([]byte, 0, len(packed.b)), packed.b...), nil
		}
	}
	if !IsEnvelope(value) {
		return value, nil
	}
	out := make([]byte, 0, prefixSize+len(value))
	return append(header{}.append(out, KeyID{}), value...), nil
}

// Decompress undoes [Codec.Compress]: it decodes suite 00, and returns a value without the magic, or an encrypted
// one, unchanged. It returns stored or a part of it, unless that was compressed. The errors are ErrUnsupportedFormat,
// ErrCorrupt, and ErrValueTooLarge above Params.MaxSize or a, which may be nil.
func (c *Codec) Decompress(stored []byte, a *Allowance) ([]byte, error) {
	if !IsEnvelope(stored) {
		return stored, nil
	}
	h, err := parseHeader(stored)
	if err != nil {
		return nil, err
	}
	if h.suite != NoSuite {
		return stored, nil
	}
	return c.unpack(h, stored[prefixSize:], a)
}

// compresses reports whether to try compression. A value longer than MaxSize could not be read back.
func (c *Codec) compresses(size int) bool {
	return c.compressMin > 0 && size >= c.compressMin && size <= c.maxSize
}

// worthIt reports whether compression saves at least an eighth: less does not pay for decompressing at each read.
func worthIt(packed, size int) bool { return packed <= size-(size+7)/8 }

func appendCompressed(dst, value []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
	return encoder().EncodeAll(value, dst)
}

// decompress checks the announced length, and whether the frame can hold it, before it allocates exactly that much.
func (c *Codec) decompress(payload []byte, a *Allowance) ([]byte, error) {
	if len(payload) < lengthSize {
		return nil, ErrCorrupt
	}
	size := binary.BigEndian.Uint32(payload)
	if uint64(size) > uint64(c.maxSize) {
		return nil, fmt.Errorf("%w: %d bytes decompressed, the limit is %d", ErrValueTooLarge, size, c.maxSize)
	}
	f, err := parseFrame(payload[lengthSize:])
	if err != nil || !f.mayHold(uint64(size)) {
		return nil, ErrCorrupt
	}
	if err := a.take(len(payload), int(size)); err != nil {
		return nil, err
	}
	return f.decode(payload[lengthSize:], int(size))
}

// encoder is shared: it starts no goroutine as long as only EncodeAll is called, and keeps one state of about 2 MiB
// for each processor. The window bounds that; longer values are rare, and are compressed nonetheless.
var encoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithWindowSize(1<<20), zstd.WithZeroFrames(true))
	if err != nil {
		panic(err) // the options are constant
	}
	return e
})
