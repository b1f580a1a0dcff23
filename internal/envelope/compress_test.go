package envelope_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

func TestCompressionIsKeptIfItSavesAnEighth(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{CompressMin: 1024})
	k := newKey(t, readmeKey)
	for _, tc := range []struct {
		name  string
		value []byte
		kept  bool
	}{
		{"compressible", text(1024), true},
		{"below the minimum", text(1023), false},
		{"incompressible", dense(4096), false},
		{"saves 12.1 %", slices.Concat(make([]byte, 4960), dense(36000)), false},
		{"saves 12.9 %", slices.Concat(make([]byte, 5280), dense(35680)), true},
		{"empty", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			stored, err := c.Seal(bg, k, "/k", tc.value)
			require.NoError(t, err)
			require.Equal(t, tc.kept, stored[6] == 1)
			require.Equal(t, tc.kept, len(stored)-64 <= len(tc.value)*7/8 && len(tc.value) > 0)

			framed, err := c.Compress(tc.value)
			require.NoError(t, err)
			require.Equal(t, tc.kept, envelope.IsEnvelope(framed))
			if tc.kept {
				require.Equal(t, []byte("\xFFecv\x01\x00\x01\x00"), framed[:8])
				require.Equal(t, len(tc.value), int(binary.BigEndian.Uint32(framed[8:])))
				require.LessOrEqual(t, len(framed), len(tc.value)*7/8)
			} else {
				require.Equal(t, tc.value, framed)
			}
			got, err := c.Decompress(framed, nil)
			require.NoError(t, err)
			require.True(t, bytes.Equal(tc.value, got))
		})
	}
}

func TestWithoutMinimumNothingIsCompressedAndEverythingRead(t *testing.T) {
	t.Parallel()
	k := newKey(t, readmeKey)
	writer := envelope.NewCodec(envelope.Params{CompressMin: 1})
	for _, compressMin := range []int{0, -1} {
		c := envelope.NewCodec(envelope.Params{CompressMin: compressMin})
		same, err := c.Compress(text(4096))
		require.NoError(t, err)
		require.Equal(t, text(4096), same)
		stored, err := c.Seal(bg, k, "/k", text(4096))
		require.NoError(t, err)
		require.Len(t, stored, 4096+64)

		stored, err = writer.Seal(bg, k, "/k", text(4096))
		require.NoError(t, err)
		require.Less(t, len(stored), 4096)
		got, err := c.Open(bg, newRing(t, k), "/k", stored, nil)
		require.NoError(t, err)
		require.Equal(t, text(4096), got)
	}
}

func TestPlainValueThatBeginsWithTheMagicSurvives(t *testing.T) {
	t.Parallel()
	sealed, err := envelope.NewCodec(envelope.Params{}).Seal(bg, newKey(t, readmeKey), "/k", text(100))
	require.NoError(t, err)
	for _, value := range [][]byte{
		[]byte("\xFFecv"), []byte("\xFFecv\x01\x00\x00\x00plain"), sealed,
		slices.Concat([]byte("\xFFecv"), text(4096)), slices.Concat([]byte("\xFFecv"), dense(4096)),
	} {
		for _, compressMin := range []int{0, 1} {
			c := envelope.NewCodec(envelope.Params{CompressMin: compressMin})
			stored, err := c.Compress(value)
			require.NoError(t, err)
			require.Equal(t, []byte("\xFFecv\x01\x00"), stored[:6])
			got, err := c.Decompress(stored, nil)
			require.NoError(t, err)
			require.Equal(t, value, got)
		}
	}
	c := envelope.NewCodec(envelope.Params{CompressMin: 1})
	stored, err := c.Compress([]byte("\xFFecv?"))
	require.NoError(t, err)
	require.Equal(t, "\xFFecv\x01\x00\x00\x00\xFFecv?", string(stored))
}

func TestDecompressReturnsOtherSuitesUnchanged(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{CompressMin: 1})
	for _, stored := range [][]byte{nil, {}, []byte("plain"), []byte("\xFFec")} {
		got, err := c.Decompress(stored, nil)
		require.NoError(t, err)
		require.Equal(t, stored, got)
	}
	for suite, k := range keysBySuite(t) {
		stored, err := c.Seal(bg, k, "/k", text(4096))
		require.NoError(t, err)
		got, err := c.Decompress(stored, nil)
		require.NoError(t, err)
		require.Equal(t, stored, got, suite)
	}
	for stored, want := range map[string]error{
		"\xFFecv\x02\x00\x00\x00": envelope.ErrUnsupportedFormat,
		"\xFFecv\x01\x00\x00":     envelope.ErrCorrupt,
	} {
		_, err := c.Decompress([]byte(stored), nil)
		require.ErrorIs(t, err, want)
	}
}

func TestOversizeValueIsNeitherCompressedNorDecompressed(t *testing.T) {
	t.Parallel()
	k := newKey(t, readmeKey)
	small := envelope.NewCodec(envelope.Params{CompressMin: 1, MaxSize: 1000})
	large := envelope.NewCodec(envelope.Params{CompressMin: 1})
	for size, fits := range map[int]bool{1000: true, 1001: false} {
		stored, err := small.Seal(bg, k, "/k", text(size))
		require.NoError(t, err)
		require.Equal(t, fits, stored[6] == 1)
		got, err := small.Open(bg, newRing(t, k), "/k", stored, nil)
		require.NoError(t, err)
		require.Equal(t, text(size), got)

		stored, err = large.Seal(bg, k, "/k", text(size))
		require.NoError(t, err)
		require.Equal(t, byte(1), stored[6])
		_, err = small.Open(bg, newRing(t, k), "/k", stored, nil)
		if fits {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, envelope.ErrValueTooLarge)
		}
	}
}

func TestNoLimitIsAboveAGibibyte(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{MaxSize: math.MaxInt})
	_, err := c.Decompress(suite00(1<<30+1, frameHeader(1<<30+1), block(rle, true, 1, []byte{0})), nil)
	require.ErrorIs(t, err, envelope.ErrValueTooLarge)
}

// Blocks of zstd, for frames that no encoder would write.
const (
	raw = 0
	rle = 1
	lz  = 2
)

func block(kind int, last bool, size int, body []byte) []byte {
	head := size<<3 | kind<<1
	if last {
		head |= 1
	}
	return append([]byte{byte(head), byte(head >> 8), byte(head >> 16)}, body...)
}

// frameHeader has a content size of 8 bytes, or none and a window of 128 KiB.
func frameHeader(contentSize int64) []byte {
	if contentSize < 0 {
		return []byte("\x28\xb5\x2f\xfd\x00\x38")
	}
	return binary.LittleEndian.AppendUint64([]byte("\x28\xb5\x2f\xfd\xe0"), uint64(contentSize))
}

func suite00(length uint32, frame ...[]byte) []byte {
	stored := binary.BigEndian.AppendUint32([]byte("\xFFecv\x01\x00\x01\x00"), length)
	return append(stored, slices.Concat(frame...)...)
}

func frameOf(t *testing.T, value []byte, options ...zstd.EOption) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil, append(options, zstd.WithEncoderConcurrency(1))...)
	require.NoError(t, err)
	return e.EncodeAll(value, nil)
}

func TestFramesOfOtherWritersAreRead(t *testing.T) {
	t.Parallel()
	mixed := slices.Concat(dense(1<<17), text(1<<17), make([]byte, 1<<17), dense(1<<17), text(77))
	var streamed bytes.Buffer
	e, err := zstd.NewWriter(&streamed, zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	_, err = e.Write(mixed)
	require.NoError(t, err)
	require.NoError(t, e.Flush())
	_, err = e.Write(mixed)
	require.NoError(t, err)
	require.NoError(t, e.Close())

	for name, tc := range map[string]struct{ value, frame []byte }{
		"no checksum":       {mixed, frameOf(t, mixed, zstd.WithEncoderCRC(false))},
		"single segment":    {text(300), frameOf(t, text(300), zstd.WithSingleSegment(true))},
		"fastest":           {mixed, frameOf(t, mixed, zstd.WithEncoderLevel(zstd.SpeedFastest))},
		"best":              {mixed, frameOf(t, mixed, zstd.WithEncoderLevel(zstd.SpeedBestCompression))},
		"large window":      {mixed, frameOf(t, mixed, zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false))},
		"streamed":          {slices.Concat(mixed, mixed), streamed.Bytes()},
		"no content size":   {[]byte("abc"), slices.Concat(frameHeader(-1), block(raw, true, 3, []byte("abc")))},
		"run":               {bytes.Repeat([]byte("a"), 5), slices.Concat(frameHeader(5), block(rle, true, 5, []byte("a")))},
		"empty":             {[]byte{}, slices.Concat(frameHeader(0), block(raw, true, 0, nil))},
		"empty, last block": {[]byte("abc"), slices.Concat(frameHeader(3), block(raw, false, 3, []byte("abc")), block(raw, true, 0, nil))},
	} {
		got, err := envelope.NewCodec(envelope.Params{}).Decompress(suite00(uint32(len(tc.value)), tc.frame), nil)
		require.NoError(t, err, name)
		require.True(t, bytes.Equal(tc.value, got), name)
		require.Equal(t, len(got), cap(got), name)
	}
}

func TestOnlyOneFrameOfTheAnnouncedLengthOpens(t *testing.T) {
	t.Parallel()
	value := text(1000)
	frame := frameOf(t, value)
	skippable := []byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc")
	for name, stored := range map[string][]byte{
		"no length":            []byte("\xFFecv\x01\x00\x01\x00\x00\x00\x03"),
		"no frame":             suite00(1000),
		"no frame, empty":      suite00(0),
		"announced too short":  suite00(999, frame),
		"announced too long":   suite00(1001, frame),
		"trailing byte":        suite00(1000, frame, []byte{0}),
		"trailing frame":       suite00(1000, frame, frame),
		"both counted":         suite00(2000, frame, frame),
		"trailing skippable":   suite00(1000, frame, skippable),
		"leading skippable":    suite00(1000, skippable, frame),
		"skippable alone":      suite00(0, skippable),
		"skippable of a block": suite00(0, []byte("\x50\x2a\x4d\x18\x03\x00\x00\x00"), block(raw, true, 0, nil)),
		"too long, no size":    suite00(201, frameOf(t, text(200), zstd.WithSingleSegment(false))),
		"not zstd":             suite00(3, []byte("abcabcabcabc")),
		"nested":               suite00(1000, suite00(1000, frame)),
		"cut":                  suite00(1000, frame[:len(frame)-1]),
		"with a dictionary":    suite00(3, []byte("\x28\xb5\x2f\xfd\x21\x07\x03"), block(raw, true, 3, []byte("abc"))),
		"reserved block":       suite00(3, frameHeader(3), block(3, true, 3, []byte("abc"))),
		"no last block":        suite00(3, frameHeader(3), block(raw, false, 3, []byte("abc"))),
		"block past the end":   suite00(9, frameHeader(9), block(raw, true, 9, []byte("abc"))),
		"content size differs": suite00(3, frameHeader(4), block(raw, true, 3, []byte("abc"))),
		"window too large":     suite00(3, []byte("\x28\xb5\x2f\xfd\x00\xf0"), block(raw, true, 3, []byte("abc"))),
		"empty compressed":     suite00(3, frameHeader(3), block(lz, true, 0, nil)),
	} {
		_, err := envelope.NewCodec(envelope.Params{}).Decompress(stored, nil)
		require.ErrorIs(t, err, envelope.ErrCorrupt, name)
	}
}

// TestBombsAreDefusedWithinTheLimit builds small values that stand for a gigabyte or claim to. It measures what the
// process allocates, so it does not run beside others.
func TestBombsAreDefusedWithinTheLimit(t *testing.T) {
	const limit, gigabyte, full = 16 << 20, 1 << 30, 128 << 10
	c := envelope.NewCodec(envelope.Params{})
	warm, err := c.Decompress(suite00(1<<20, frameOf(t, text(1<<20))), nil)
	require.NoError(t, err)
	require.Len(t, warm, 1<<20)

	run := func(n int) []byte { return bytes.Repeat(block(rle, false, full, []byte{0}), n) }
	runs := slices.Concat(run(gigabyte/full), block(rle, true, 0, []byte{0}))
	packed := firstBlock(t, text(full))
	blocks := slices.Concat(bytes.Repeat(packed, gigabyte/full), block(rle, true, 0, []byte{0}))
	// The announced length is reached with compressed blocks; a raw block is one too many.
	brimful := slices.Concat(bytes.Repeat(packed, limit/full), run(1), block(raw, true, 0, nil))
	almost := slices.Concat(bytes.Repeat(packed, limit/full-1), block(raw, false, 1, []byte{1}), block(rle, true, full, []byte{0}))

	const whole, nothing = uint64(limit * 11 / 10), uint64(64 << 10)
	for name, tc := range map[string]struct {
		stored []byte
		want   error
		most   uint64 // bytes that may be allocated
	}{
		"announced":                   {suite00(gigabyte, frameHeader(gigabyte), runs), envelope.ErrValueTooLarge, nothing},
		"announced at most":           {suite00(1<<32-1, frameHeader(gigabyte), runs), envelope.ErrValueTooLarge, nothing},
		"one past":                    {suite00(limit+1, frameHeader(limit+1), runs), envelope.ErrValueTooLarge, nothing},
		"runs, header true":           {suite00(limit, frameHeader(gigabyte), runs), envelope.ErrCorrupt, nothing},
		"runs, header false":          {suite00(limit, frameHeader(limit), runs), envelope.ErrCorrupt, nothing},
		"runs, no header":             {suite00(limit, frameHeader(-1), runs), envelope.ErrCorrupt, nothing},
		"blocks, header true":         {suite00(limit, frameHeader(gigabyte), blocks), envelope.ErrCorrupt, nothing},
		"blocks, header false":        {suite00(limit, frameHeader(limit), blocks), envelope.ErrCorrupt, whole},
		"blocks, no header":           {suite00(limit, frameHeader(-1), blocks), envelope.ErrCorrupt, whole},
		"one run more":                {suite00(limit, frameHeader(limit), brimful), envelope.ErrCorrupt, whole},
		"one run more, no header":     {suite00(limit, frameHeader(-1), brimful), envelope.ErrCorrupt, whole},
		"one byte more":               {suite00(limit, frameHeader(limit), almost), envelope.ErrCorrupt, whole},
		"one byte more, no header":    {suite00(limit, frameHeader(-1), almost), envelope.ErrCorrupt, whole},
		"nothing behind the promise":  {suite00(limit, frameHeader(limit), block(rle, true, 1, []byte{0})), envelope.ErrCorrupt, nothing},
		"nothing behind it, streamed": {suite00(limit, frameHeader(-1), block(rle, true, 1, []byte{0})), envelope.ErrCorrupt, nothing},
	} {
		var got []byte
		var err error
		allocated := allocatedBy(func() { got, err = c.Decompress(tc.stored, nil) })
		require.ErrorIs(t, err, tc.want, name)
		require.Nil(t, got, name)
		require.Less(t, allocated, tc.most, name)
		t.Logf("%-28s %8d bytes stored, %8d allocated: %v", name, len(tc.stored), allocated, err)
	}
}

// firstBlock is value, of a block's length, as one compressed block that is not the last.
func firstBlock(t *testing.T, value []byte) []byte {
	t.Helper()
	frame := frameOf(t, value, zstd.WithEncoderCRC(false))
	var h zstd.Header
	require.NoError(t, h.Decode(frame))
	body := slices.Clone(frame[h.HeaderSize:])
	require.True(t, h.FirstBlock.Last)
	require.Equal(t, byte(lz), body[0]>>1&3)
	body[0] &^= 1
	return body
}

func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
