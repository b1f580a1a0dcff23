package envelope

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// lengthSize is what a compressed payload has before its frame.
const lengthSize = 4

// Compress frames value as suite 00 if it is compressed, that is, if it has Params.CompressMin bytes and at least an
// eighth is saved, the framing counted. Otherwise it returns value itself, but for one that begins with the magic:
// that is framed uncompressed, so that [Codec.Decompress] returns any value as it was. The error is always nil so far.
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

// Decompress undoes [Codec.Compress]: it decodes suite 00, and returns a value without the magic and an encrypted one
// as they are. It returns stored or a part of it, unless it was compressed. The errors are ErrUnsupportedFormat,
// ErrValueTooLarge past Params.MaxSize and a, which may be nil, and ErrCorrupt.
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

// compresses reports whether to try to. A value past MaxSize could not be read back.
func (c *Codec) compresses(size int) bool {
	return c.compressMin > 0 && size >= c.compressMin && size <= c.maxSize
}

// worthIt reports whether at least an eighth is saved: less does not pay for decompressing at each read.
func worthIt(packed, size int) bool { return packed <= size-(size+7)/8 }

func appendCompressed(dst, value []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
	return encoder().EncodeAll(value, dst)
}

// decompress checks the announced length, and whether the frame can hold it, before it allocates just that.
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
// for each processor. The window bounds that; few values are longer, and they are compressed nonetheless.
var encoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithWindowSize(1<<20), zstd.WithZeroFrames(true))
	if err != nil {
		panic(err) // the options are constant
	}
	return e
})
