package envelope_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// The tests of this file count allocations, so they do not run beside others.

func TestSealAllocatesTheStoredValueAndNothingElse(t *testing.T) {
	for _, compressMin := range []int{0, 1} {
		c := envelope.NewCodec(envelope.Params{Context: []byte("prod"), CompressMin: compressMin})
		for suite, k := range keysBySuite(t) {
			if suite == envelope.ExternalAEAD {
				continue // allocates what it likes
			}
			for _, size := range []int{0, 100, 10 << 10} {
				value := text(size)
				allocs := testing.AllocsPerRun(1000, func() {
					if _, err := c.Seal(bg, k, "/some/key/of/usual/length", value); err != nil {
						t.Fatal(err)
					}
				})
				require.LessOrEqual(t, allocs, 1.0+poolSlack, "%s, %d bytes, compression from %d", suite, size, compressMin)
			}
		}
	}
}

func TestOpenAllocatesOnlyTheDecompressedValue(t *testing.T) {
	r := fullRing(t)
	for _, compressMin := range []int{0, 1} {
		c := envelope.NewCodec(envelope.Params{Context: []byte("prod"), CompressMin: compressMin})
		for suite, k := range keysBySuite(t) {
			if suite == envelope.ExternalAEAD {
				continue
			}
			for _, size := range []int{0, 100, 10 << 10} {
				stored, err := c.Seal(bg, k, "/some/key/of/usual/length", text(size))
				require.NoError(t, err)
				again := make([]byte, len(stored))
				allocs := testing.AllocsPerRun(1000, func() {
					copy(again, stored)
					if _, err := c.Open(bg, r, "/some/key/of/usual/length", again, nil); err != nil {
						t.Fatal(err)
					}
				})
				require.LessOrEqual(t, allocs, float64(stored[6])+poolSlack, "%s, %d bytes", suite, size)
			}
		}
	}
}

func TestHeaderQuestionsAllocateNothing(t *testing.T) {
	stored := unhex(t, exampleValue)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		_, _ = envelope.SuiteOf(stored)
		_, _ = envelope.KeyIDOf(stored)
	}))
}
