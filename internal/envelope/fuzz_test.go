package envelope_test

import (
	"bytes"
	"errors"
	"runtime/metrics"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/blueprint-go/etcd/internal/envelope"
)

const (
	fuzzLimit = 64 << 10

	// What the decompressor allocates beside the value, however large that is: room for a block and, at first use, its
	// tables.
	fuzzSlack = 1 << 20
)

var refusals = []error{
	envelope.ErrNotEncrypted, envelope.ErrUnsupportedFormat, envelope.ErrCorrupt,
	envelope.ErrUnknownKey, envelope.ErrDecrypt, envelope.ErrValueTooLarge,
}

func requireRefusal(t *testing.T, err error) {
	t.Helper()
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return
		}
	}
	t.Fatalf("not a refusal of the format: %v", err)
}

// FuzzOpen: whatever is stored, Open neither panics nor allocates beyond the limit, fails with one of the format's
// errors, and what opens has a header that this package would write.
func FuzzOpen(f *testing.F) {
	keys := keysBySuite(f)
	r := fullRing(f)
	c := envelope.NewCodec(envelope.Params{MaxSize: fuzzLimit})
	writer := envelope.NewCodec(envelope.Params{CompressMin: 1})
	for _, value := range [][]byte{nil, []byte("v"), text(500), dense(500), text(fuzzLimit + 1)} {
		for _, k := range keys {
			stored, err := writer.Seal(bg, k, "/k", value)
			if err != nil {
				f.Fatal(err)
			}
			f.Add("/k", stored)
			f.Add("/other", stored[:len(stored)/2])
		}
		framed, err := writer.Compress(slices.Concat([]byte("\xFFecv"), value))
		if err != nil {
			f.Fatal(err)
		}
		f.Add("/k", framed)
	}
	f.Add("", []byte("\xFFecv\x02"))
	f.Add("", []byte("plain"))
	f.Fuzz(func(t *testing.T, key string, stored []byte) {
		before := slices.Clone(stored)
		var value []byte
		var err error
		if n := largeAllocations(func() { value, err = c.Open(bg, r, key, stored, nil) }); n > fuzzLimit+fuzzSlack {
			t.Fatalf("allocated %d bytes", n)
		}
		if err != nil {
			requireRefusal(t, err)
			return
		}
		if len(value) > max(fuzzLimit, len(before)) {
			t.Fatalf("a value of %d bytes", len(value))
		}
		head, err := envelope.Reencode(before)
		if err != nil || !bytes.HasPrefix(before, head) {
			t.Fatalf("opened with header %x, which would be written as %x (%v)", before[:len(head)], head, err)
		}
	})
}

// FuzzFrame does the same to compressed payloads, past the header and without a tag to keep anything out.
func FuzzFrame(f *testing.F) {
	c := envelope.NewCodec(envelope.Params{MaxSize: fuzzLimit})
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true))
	if err != nil {
		f.Fatal(err)
	}
	for _, value := range [][]byte{nil, []byte("v"), text(500), dense(500), slices.Concat(text(40<<10), dense(20<<10))} {
		f.Add(uint32(len(value)), e.EncodeAll(value, nil))
	}
	f.Add(uint32(fuzzLimit), slices.Concat(frameHeader(-1), block(rle, false, fuzzLimit-1, []byte{0}), block(raw, true, 1, []byte{0})))
	f.Add(uint32(1<<32-1), slices.Concat(frameHeader(1<<40), block(rle, true, 128<<10, []byte{0})))
	f.Fuzz(func(t *testing.T, length uint32, frame []byte) {
		stored := suite00(length, frame)
		var value []byte
		var err error
		if n := largeAllocations(func() { value, err = c.Decompress(stored, nil) }); n > uint64(fuzzLimit+fuzzSlack+len(frame)) {
			t.Fatalf("allocated %d bytes", n)
		}
		if err != nil {
			requireRefusal(t, err)
			return
		}
		if uint32(len(value)) != length {
			t.Fatalf("%d bytes, announced %d", len(value), length)
		}
		got, err := c.Decompress(suite00(uint32(len(value)), e.EncodeAll(value, nil)), nil)
		if err != nil || !bytes.Equal(value, got) {
			t.Fatalf("compressed again it does not come back: %v", err)
		}
	})
}

// FuzzRoundTrip: every value comes back from its place, under every suite, compressed or not; and from no other place.
func FuzzRoundTrip(f *testing.F) {
	keys := []*envelope.Key{}
	for _, k := range keysBySuite(f) {
		keys = append(keys, k)
	}
	r := fullRing(f)
	f.Add("/k", []byte("v"), []byte(nil), byte(0), 0)
	f.Add("", []byte(nil), []byte("prod"), byte(1), 1)
	f.Add("/k", text(2000), []byte("prod"), byte(2), 1024)
	f.Add("/k", []byte("\xFFecv\x01\x00\x01\x00"), []byte(nil), byte(2), 1)
	f.Fuzz(func(t *testing.T, key string, value, context []byte, which byte, compressMin int) {
		c := envelope.NewCodec(envelope.Params{Context: context, CompressMin: compressMin})
		stored, err := c.Seal(bg, keys[int(which)%len(keys)], key, value)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.Open(bg, r, key+"x", slices.Clone(stored), nil); !errors.Is(err, envelope.ErrDecrypt) {
			t.Fatalf("opens in another place: %v", err)
		}
		got, err := c.Open(bg, r, key, stored, nil)
		if err != nil || !bytes.Equal(value, got) {
			t.Fatalf("sealed %x, opened %x, %v", value, got, err)
		}
		framed, err := c.Compress(value)
		if err != nil {
			t.Fatal(err)
		}
		if got, err = c.Decompress(framed, nil); err != nil || !bytes.Equal(value, got) {
			t.Fatalf("compressed %x, decompressed %x, %v", value, got, err)
		}
	})
}

// largeAllocations measures without stopping the world, as runtime.ReadMemStats would at each input; small objects may
// be counted late.
func largeAllocations(f func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}
