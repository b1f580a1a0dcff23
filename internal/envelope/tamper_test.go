package envelope_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd/internal/envelope"
)

// sample is a stored value of one suite, as long as makes an exhaustive search quick.
type sample struct {
	name   string
	suite  envelope.Suite
	stored []byte
	value  []byte
}

func samples(t *testing.T) []sample {
	t.Helper()
	var all []sample
	for _, compressMin := range []int{0, 1} {
		c := envelope.NewCodec(envelope.Params{CompressMin: compressMin})
		for suite, k := range keysBySuite(t) {
			for _, size := range []int{0, 1, 100} {
				value := bytes.Repeat([]byte("a"), size)
				stored, err := c.Seal(bg, k, "/k", value)
				require.NoError(t, err)
				name := suite.String()
				if stored[6] != 0 {
					name += ", compressed"
				}
				all = append(all, sample{name, suite, stored, value})
			}
		}
	}
	return all
}

// TestEveryOtherByteAtEveryPlaceFails tries all 255 wrong values of each byte of encrypted values.
func TestEveryOtherByteAtEveryPlaceFails(t *testing.T) {
	t.Parallel()
	c, r := envelope.NewCodec(envelope.Params{}), fullRing(t)
	for _, s := range samples(t) {
		for at := range s.stored {
			for xor := 1; xor < 256; xor++ {
				changed := slices.Clone(s.stored)
				changed[at] ^= byte(xor)
				got, err := c.Open(bg, r, "/k", slices.Clone(changed), nil)
				if at == 5 && changed[at] == byte(envelope.NoSuite) {
					requireSuite00IsSeen(t, s, changed, got)
					continue
				}
				require.ErrorIs(t, err, wantForByte(s, at, changed), "%s: byte %d is %#x", s.name, at, changed[at])
				require.Nil(t, got)
			}
		}
	}
}

// requireSuite00IsSeen: no key protects suite 00, so a value made to claim it can only be told by asking for the suite,
// as whoever requires encryption does. What it yields is never the value.
func requireSuite00IsSeen(t *testing.T, s sample, changed, got []byte) {
	t.Helper()
	suite, err := envelope.SuiteOf(changed)
	require.NoError(t, err)
	require.Equal(t, envelope.NoSuite, suite)
	require.False(t, got != nil && bytes.Equal(s.value, got))
}

func wantForByte(s sample, at int, changed []byte) error {
	switch {
	case at < 4:
		return envelope.ErrNotEncrypted
	case at == 4 || at == 7:
		return envelope.ErrUnsupportedFormat
	case at == 5:
		return wantForSuite(s, envelope.Suite(changed[at]))
	case at == 6 && changed[at] > 1:
		return envelope.ErrUnsupportedFormat
	case at >= 8 && at < 24:
		return envelope.ErrUnknownKey
	default:
		return envelope.ErrDecrypt
	}
}

func wantForSuite(s sample, suite envelope.Suite) error {
	switch {
	case suite != envelope.XAES256GCM && suite != envelope.AES256GCM && suite != envelope.ExternalAEAD:
		return envelope.ErrUnsupportedFormat
	case len(s.stored) < envelope.Overhead(suite):
		return envelope.ErrCorrupt
	default:
		return envelope.ErrDecrypt
	}
}

func TestEveryTruncationFails(t *testing.T) {
	t.Parallel()
	c, r := envelope.NewCodec(envelope.Params{}), fullRing(t)
	for _, s := range samples(t) {
		for n := range s.stored {
			want := envelope.ErrDecrypt
			switch {
			case n < 4:
				want = envelope.ErrNotEncrypted
			case n < envelope.Overhead(s.suite):
				want = envelope.ErrCorrupt
			}
			got, err := c.Open(bg, r, "/k", slices.Clone(s.stored[:n]), nil)
			require.ErrorIs(t, err, want, "%s: %d of %d bytes", s.name, n, len(s.stored))
			require.Nil(t, got)
		}
	}
}

func TestEveryByteAppendedFails(t *testing.T) {
	t.Parallel()
	c, r := envelope.NewCodec(envelope.Params{}), fullRing(t)
	for _, s := range samples(t) {
		for b := range 256 {
			_, err := c.Open(bg, r, "/k", append(slices.Clone(s.stored), byte(b)), nil)
			require.ErrorIs(t, err, envelope.ErrDecrypt, s.name)
		}
	}
}

// TestChangedFrameByteNeverYieldsOtherData does the same to suite 00, which has no tag but the frame's
// checksum: a byte without a meaning (the frame header has unused bits) may be anything, all others fail.
func TestChangedFrameByteNeverYieldsOtherData(t *testing.T) {
	t.Parallel()
	c := envelope.NewCodec(envelope.Params{CompressMin: 1})
	value := slices.Concat(text(600), dense(50))
	stored, err := c.Compress(value)
	require.NoError(t, err)
	require.Equal(t, byte(1), stored[6])
	for at := 8; at < len(stored); at++ {
		for xor := 1; xor < 256; xor++ {
			changed := slices.Clone(stored)
			changed[at] ^= byte(xor)
			got, err := c.Decompress(changed, nil)
			if err == nil {
				require.Equal(t, value, got, "byte %d is %#x", at, changed[at])
				require.Less(t, at, 8+4+6, "only the frame's header has bits to spare")
				continue
			}
			want := envelope.ErrCorrupt
			if at < 12 && len(changed) > 0 && beyond16MiB(changed[8:12]) {
				want = envelope.ErrValueTooLarge
			}
			require.ErrorIs(t, err, want, "byte %d is %#x", at, changed[at])
		}
	}
	for n := 8; n < len(stored); n++ {
		_, err := c.Decompress(slices.Clone(stored[:n]), nil)
		require.ErrorIs(t, err, envelope.ErrCorrupt, "%d of %d bytes", n, len(stored))
	}
}

func beyond16MiB(length []byte) bool {
	return length[0] > 1 || length[0] == 1 && !bytes.Equal(length[1:], []byte{0, 0, 0})
}
