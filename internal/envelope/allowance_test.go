package envelope_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// bomb is a value of suite 00 that decompresses to n runs of 128 KiB.
func bomb(n int) []byte {
	const full = 128 << 10
	runs := bytes.Repeat(block(rle, false, full, []byte{0}), n)
	return suite00(uint32(n*full), frameHeader(int64(n*full)), runs, block(raw, true, 0, nil))
}

func TestOneCallDecompressesABoundedSum(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{})
	stored := bomb(128) // 16 MiB in 539 bytes
	var a envelope.Allowance
	good := 0
	for range 40 {
		value, err := c.Decompress(stored, &a)
		if err == nil {
			good += len(value)
			continue
		}
		require.ErrorIs(t, err, envelope.ErrValueTooLarge)
	}
	require.Equal(t, 64<<20, good)

	// What is compressed as text is costs nothing: a bomb takes no room from it.
	plain := text(10 << 10)
	packed := suite00(uint32(len(plain)), frameOf(t, slices.Concat(dense(1<<10), plain[:9<<10])))
	_, err := c.Decompress(packed, &a)
	require.NoError(t, err)
	_, err = c.Decompress(stored, new(envelope.Allowance))
	require.NoError(t, err, "another call has its own")
}

// It measures what the process allocates, so it does not run beside others.
func TestClaimThatAFrameCannotHoldAllocatesNothing(t *testing.T) {
	c := envelope.NewCodec(envelope.Params{})
	packed := firstBlock(t, text(128<<10))
	packed[0] |= 1
	for name, stored := range map[string][]byte{
		"one block":    suite00(16<<20, frameHeader(16<<20), packed),
		"one, no size": suite00(16<<20, frameHeader(-1), packed),
		"one byte":     suite00(128<<10+1, frameHeader(128<<10+1), packed),
	} {
		allocated := allocatedBy(func() {
			_, err := c.Decompress(stored, nil)
			require.ErrorIs(t, err, envelope.ErrCorrupt, name)
		})
		require.Less(t, allocated, uint64(64<<10), name)
	}
}
