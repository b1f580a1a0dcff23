package envelope

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	maxBlock = 128 << 10 // RFC 8878, 3.1.1.2.4; the decoder refuses larger ones

	blockHeaderSize = 3
	checksumSize    = 4
)

// The types of a block, RFC 8878, 3.1.1.2.2.
const (
	blockRaw        = 0
	blockRLE        = 1
	blockCompressed = 2
)

// decoder is shared: DecodeAll starts no goroutine, and at most as many calls run at once as there are processors. It
// is limited to the capacity that it is given, so it need not know how large a value may be.
var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are constant
	}
	return d
})

// decode decodes the frame, which holds exactly size bytes. It allocates that many; for a frame of several blocks
// maxBlock more, and a copy of the frame if its header does not tell its size.
func (f *frameShape) decode(frame []byte, size int) ([]byte, error) {
	room := size
	if f.blocks > 1 {
		// The decoder appends a block first and checks later: without room for that, a hostile frame would make it
		// double the buffer. It only checks if the header tells the size.
		room += maxBlock
		var err error
		if frame, err = f.withContentSize(frame, size); err != nil {
			return nil, ErrCorrupt
		}
	}
	out, err := decoder().DecodeAll(frame, make([]byte, 0, room))
	if err != nil || len(out) != size {
		return nil, ErrCorrupt
	}
	return out[:size:size], nil
}

// frameShape is what can be known of a frame without decoding it.
type frameShape struct {
	zstd.Header
	blocks     int
	literal    uint64 // bytes that raw and run-length blocks decode to
	compressed uint64 // other blocks
}

// parseFrame walks the blocks itself, because the decoder continues with whatever follows a frame, and skips what it
// is told to.
func parseFrame(frame []byte) (frameShape, error) {
	var f frameShape
	rest, err := f.DecodeAndStrip(frame)
	if err != nil || f.Skippable {
		return f, ErrCorrupt
	}
	for last := false; !last; {
		if len(rest) < blockHeaderSize {
			return f, ErrCorrupt
		}
		head := int(rest[0]) | int(rest[1])<<8 | int(rest[2])<<16
		last = head&1 != 0
		stored := f.addBlock(head>>1&3, head>>3)
		if rest = rest[blockHeaderSize:]; stored < 0 || len(rest) < stored {
			return f, ErrCorrupt
		}
		rest = rest[stored:]
	}
	if f.HasCheckSum != (len(rest) == checksumSize) || !f.HasCheckSum && len(rest) != 0 {
		return f, ErrCorrupt
	}
	return f, nil
}

// addBlock counts a block and returns how many bytes it takes in the frame, or -1 for a type that does not exist.
func (f *frameShape) addBlock(kind, size int) int {
	f.blocks++
	switch kind {
	case blockRaw, blockRLE:
		f.literal += uint64(size)
		if kind == blockRLE {
			return 1
		}
		return size
	case blockCompressed:
		f.compressed++
		return size
	default:
		return -1
	}
}

// mayHold reports whether the frame can decode to size bytes, as far as its headers tell. So a value of a few bytes
// that announces megabytes is refused before they are allocated.
func (f *frameShape) mayHold(size uint64) bool {
	if f.HasFCS && f.FrameContentSize != size {
		return false
	}
	return f.literal <= size && size <= f.literal+f.compressed*maxBlock
}

// withContentSize returns the frame with its size in the header, which streaming writers leave out.
func (f *frameShape) withContentSize(frame []byte, size int) ([]byte, error) {
	if f.HasFCS {
		return frame, nil
	}
	h := f.Header
	h.SingleSegment, h.FrameContentSize = true, uint64(size)
	out, err := h.AppendTo(make([]byte, 0, zstd.HeaderMaxSize+len(frame)))
	return append(out, frame[f.HeaderSize:]...), err
}
