package integration

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd"
)

// The limits are those around the first chunks of a stream (10, 20 and 40 keys) and
// the first pages (64 and 512).
func TestScanYieldsWhatAListHolds(t *testing.T) {
	inEachWay(t, func(t *testing.T, c *etcd.Client, _ *streams) {
		p := prefix(t)
		fill(t, c, p, 700)
		require.NoError(t, c.Put(t.Context(), p[:len(p)-1], nil), "before the prefix")
		require.NoError(t, c.Put(t.Context(), p[:len(p)-1]+"0", nil), "behind the prefix")
		all := list(t, c, p)
		require.Len(t, all, 700)
		limits := []int{0, 1, 2, 9, 10, 11, 29, 30, 31, 63, 64, 65, 69, 70, 71, 575, 576, 577, 699, 700, 701, 20_000}
		froms := []string{
			"", "\x00", p, p + "00000", p + "00000\x00", p + "00064", p + "00300", p + "00699", p + "00699\x00",
			p[:len(p)-1] + "0", "~",
		}
		for _, from := range froms {
			for i, limit := range limits {
				for j := range 4 {
					if j > 0 && i%4 != j {
						continue // of the three others, each limit has one
					}
					s := selection{limit: limit, from: from, reverse: j/2 == 1, keysOnly: j%2 == 1}
					require.Equal(t, s.of(all), scan(t, c.Scan(t.Context(), p, s.options()...)), "%+v", s)
				}
			}
		}
	})
}

func TestScanOfNothingYieldsNothing(t *testing.T) {
	inEachWay(t, func(t *testing.T, c *etcd.Client, _ *streams) {
		require.Empty(t, scan(t, c.Scan(t.Context(), prefix(t))))
		require.Empty(t, scan(t, c.Scan(t.Context(), prefix(t), etcd.WithReverse())))
	})
}

// A reverse scan of several pages of keys.
func TestLongReverseScan(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	manyKeys(t, c, prefix(t)) // one page and fifty
	all := list(t, c, prefix(t))
	for _, limit := range []int{0, 49, 50, 51, 10_049} {
		for _, keysOnly := range []bool{false, true} {
			s := selection{limit: limit, reverse: true, keysOnly: keysOnly}
			require.Equal(t, s.of(all), scan(t, c.Scan(t.Context(), prefix(t), s.options()...)), "%+v", s)
		}
	}
	require.Len(t, o.during(func() {
		scan(t, c.Scan(t.Context(), prefix(t), etcd.WithReverse(), etcd.WithLimit(50)))
	}), 3, "the revision, the stream of the keys, and one page of values")
}

// Going backward, large values come some at a time: 52 of 20 KB in a MiB.
func TestReverseScanReadsLargeValuesInPieces(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	for i := range 200 {
		require.NoError(t, c.Put(t.Context(), fmt.Sprintf("%s%03d", prefix(t), i), make([]byte, 20_000)))
	}
	keys := []string{"Range", "RangeStream"} // their revision first
	if !hasRangeStream(t, srv) {
		keys = append(keys, "Range", "Range") // 64 and 136 of them
	}
	pieces := []string{"Range", "Range", "Range", "Range"} // of 64, 52, 52 and 32
	require.Equal(t, append(keys, pieces...), o.during(func() {
		require.Len(t, scan(t, c.Scan(t.Context(), prefix(t), etcd.WithReverse())), 200)
	}))
}

func TestScanSeesNoWriteThatIsMadeMeanwhile(t *testing.T) {
	inEachWay(t, func(t *testing.T, c *etcd.Client, _ *streams) {
		p := prefix(t)
		fill(t, c, p, 2000)
		for _, reverse := range []bool{false, true} {
			for _, at := range []int{0, 63, 64, 65, 100, 577, 1000} {
				s := selection{reverse: reverse}
				want := s.of(list(t, c, p))
				var got []etcd.KeyValue
				for kv, err := range c.Scan(t.Context(), p, s.options()...) {
					require.NoError(t, err)
					if len(got) == at {
						change(t, c, p)
					}
					got = append(got, kv)
				}
				require.Equal(t, want, got, "written at key %d, %+v", at, s)
			}
		}
	})
}

func TestScanAtARevision(t *testing.T) {
	inEachWay(t, func(t *testing.T, c *etcd.Client, _ *streams) {
		p := prefix(t)
		fill(t, c, p, 2000)
		all := list(t, c, p)
		revision := etcd.WithRevision(all[0].ModRevision)
		change(t, c, p)
		for _, s := range []selection{{}, {limit: 100}, {keysOnly: true}, {reverse: true}, {reverse: true, limit: 100}, {reverse: true, keysOnly: true}} {
			require.Equal(t, s.of(all), scan(t, c.Scan(t.Context(), p, append(s.options(), revision)...)), "%+v", s)
		}
		_, err := collect(t, c.Scan(t.Context(), p, etcd.WithRevision(math.MaxInt64)))
		require.ErrorIs(t, err, etcd.ErrFutureRevision)
	})
}

func TestScanOfAnyPrefix(t *testing.T) {
	var keys []string
	for _, p := range []string{"", "\x00", "\x00\x00", "a", "a\xff", "a\xff\xff", "b", "\xfe", "\xff", "\xff\xff", "\xff\xff\xff", "\xff\x00"} {
		for _, s := range []string{"", "\x00", "k", "\xff"} {
			if p+s != "" {
				keys = append(keys, p+s)
			}
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	inEachWay(t, func(t *testing.T, c *etcd.Client, _ *streams) {
		for _, key := range keys {
			require.NoError(t, c.Put(t.Context(), key, nil))
		}
		for _, p := range slices.Concat(keys, []string{"", "absent", "\xff\xff\xff\xff\xff"}) {
			want := []string{}
			for _, key := range keys {
				if strings.HasPrefix(key, p) {
					want = append(want, key)
				}
			}
			require.Equal(t, want, keysOf(scan(t, c.Scan(t.Context(), p))), "%q", p)
			slices.Reverse(want)
			require.Equal(t, want, keysOf(scan(t, c.Scan(t.Context(), p, etcd.WithReverse()))), "%q", p)
		}
	})
}

func TestScanStaysInItsNamespace(t *testing.T) {
	t.Parallel()
	srv := server(t)
	for _, namespace := range []string{"a/", "b/", "b0", "\xff", "\xff\xff"} {
		c := client(t, config(srv).WithNamespace(namespace))
		fill(t, c, "key/", 100)
	}
	for _, namespace := range []string{"b/", "\xff\xff"} {
		c := client(t, config(srv).WithNamespace(namespace))
		all := list(t, c, "")
		require.Len(t, all, 100)
		for _, from := range []string{"", "key/00050", "\xff"} {
			for _, reverse := range []bool{false, true} {
				s := selection{from: from, reverse: reverse}
				require.Equal(t, s.of(all), scan(t, c.Scan(t.Context(), "", s.options()...)), "%q: %+v", namespace, s)
			}
		}
	}
}

func TestScanGoesOnAfterAnUndecodableValue(t *testing.T) {
	inEachWay(t, func(t *testing.T, plain *etcd.Client, _ *streams) {
		c := client(t, etcd.DefaultConfig().WithEndpoints(plain.Endpoints()...).WithEncryption(testKey))
		p := prefix(t)
		fill(t, c, p, 200)
		want := list(t, c, p)
		for _, i := range []int{0, 63, 64, 150, 199} {
			require.NoError(t, plain.Put(t.Context(), want[i].Key, []byte("plaintext")))
			want[i].Value = nil
		}
		for _, reverse := range []bool{false, true} {
			bad := map[string]error{}
			var got []etcd.KeyValue
			for kv, err := range c.Scan(t.Context(), p, selection{reverse: reverse}.options()...) {
				if err != nil {
					bad[kv.Key] = err
					kv.CreateRevision, kv.ModRevision, kv.Version = want[0].CreateRevision, want[0].ModRevision, want[0].Version
				}
				got = append(got, kv)
			}
			require.Equal(t, selection{reverse: reverse}.of(want), got)
			require.Len(t, bad, 5)
			for key, err := range bad {
				decode, ok := errors.AsType[*etcd.DecodeError](err)
				require.True(t, ok)
				require.Equal(t, key, decode.Key)
				require.ErrorIs(t, err, etcd.ErrNotEncrypted)
				require.NotContains(t, err.Error(), "plaintext")
			}
		}
		require.Len(t, scan(t, c.Scan(t.Context(), p, etcd.WithKeysOnly())), 200, "no value, nothing to decode")
	})
}

func TestScanRangedOverAgainBeginsAnew(t *testing.T) {
	inEachWay(t, func(t *testing.T, c *etcd.Client, _ *streams) {
		p := prefix(t)
		fill(t, c, p, 100)
		seq := c.Scan(t.Context(), p)
		require.Equal(t, list(t, c, p), scan(t, seq))
		fill(t, c, p, 200)
		require.Equal(t, list(t, c, p), scan(t, seq))
		for range seq {
			break
		}
		require.Equal(t, list(t, c, p), scan(t, seq))
	})
}

func TestScanEndsWithItsContext(t *testing.T) {
	inEachWay(t, func(t *testing.T, c *etcd.Client, f *streams) {
		p := prefix(t)
		fill(t, c, p, 5000) // in pages of 64, 512, 4096 and 328, one of them read ahead
		for _, reverse := range []bool{false, true} {
			for _, at := range []int{0, 10, 64, 500} {
				ctx, cancel := context.WithCancelCause(t.Context())
				gone := errors.New("no longer wanted")
				var last error
				n := 0
				for _, err := range c.Scan(ctx, p, selection{reverse: reverse}.options()...) {
					require.NoError(t, last)
					if last = err; n == at {
						cancel(gone)
					}
					n++
				}
				require.ErrorIs(t, last, context.Canceled, "cancelled at key %d", at)
				require.ErrorIs(t, last, gone)
				require.Less(t, n, 5000)
				cancel(nil)
			}
		}
		f.idle(t)
	})
}

func TestScanEndsWithItsClient(t *testing.T) {
	inEachWay(t, func(t *testing.T, other *etcd.Client, f *streams) {
		fill(t, other, prefix(t), 5000)
		for _, reverse := range []bool{false, true} {
			for _, at := range []int{0, 64, 100} {
				c := client(t, etcd.DefaultConfig().WithEndpoints(other.Endpoints()...))
				n := 0
				var last error
				for _, err := range c.Scan(t.Context(), prefix(t), selection{reverse: reverse}.options()...) {
					require.NoError(t, last)
					if last = err; n == at {
						require.NoError(t, c.Close())
					}
					n++
				}
				require.ErrorIs(t, last, etcd.ErrClosed, "closed at key %d", at)
				require.Less(t, n, 5000)
				_, err := collect(t, c.Scan(t.Context(), prefix(t)))
				require.ErrorIs(t, err, etcd.ErrClosed)
			}
		}
		f.idle(t)
	})
}

func TestScanThatCannotBeMadeSendsNothing(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	for name, test := range map[string]struct {
		ctx    context.Context
		prefix string
		opts   []etcd.ScanOption
		want   error
	}{
		"nil context":       {nil, "p", nil, etcd.ErrNilContext},
		"negative limit":    {t.Context(), "p", []etcd.ScanOption{etcd.WithLimit(-1)}, etcd.ErrInvalidArgument},
		"negative revision": {t.Context(), "p", []etcd.ScanOption{etcd.WithRevision(-1)}, etcd.ErrInvalidArgument},
		"long prefix":       {t.Context(), strings.Repeat("p", 1<<20), nil, etcd.ErrTooLarge},
		"long key":          {t.Context(), "p", []etcd.ScanOption{etcd.WithFromKey(strings.Repeat("p", 2<<20))}, etcd.ErrTooLarge},
	} {
		require.Empty(t, o.during(func() {
			kvs, err := collect(t, c.Scan(test.ctx, test.prefix, test.opts...))
			require.Empty(t, kvs)
			require.ErrorIs(t, err, test.want, name)
			e, ok := errors.AsType[*etcd.Error](err)
			require.True(t, ok)
			require.Equal(t, "scan", e.Op)
			require.False(t, e.Sent)
		}), name)
	}
	require.Empty(t, o.during(func() {
		require.Empty(t, scan(t, c.Scan(t.Context(), "p", etcd.WithFromKey("q"))))
		require.Empty(t, scan(t, c.Scan(t.Context(), "p", etcd.WithFromKey("o"), etcd.WithReverse())))
	}), "no key can be there")
}

func TestCompactionDuringAScanIsItsEnd(t *testing.T) {
	inEachWay(t, func(t *testing.T, c *etcd.Client, f *streams) {
		p := prefix(t)
		// More than is on its way to a slow reader.
		fillWith(t, c, p, 5000, make([]byte, 200))
		compact := func(context.Context) error {
			put, err := c.Raw().Put(t.Context(), "other", "")
			assert.NoError(t, err)
			_, err = c.Raw().Compact(t.Context(), put.Header.Revision)
			assert.NoError(t, err)
			return nil
		}
		f.before(4, compact)
		kvs, err := collect(t, c.Scan(t.Context(), p))
		require.ErrorIs(t, err, etcd.ErrCompacted)
		require.NotEmpty(t, kvs)
		require.Less(t, len(kvs), 5000)

		n := 0
		for _, err = range c.Scan(t.Context(), p, etcd.WithReverse()) {
			if n++; n == 1 {
				require.NoError(t, compact(t.Context()))
			}
		}
		require.ErrorIs(t, err, etcd.ErrCompacted)
		require.Equal(t, 64+1, n, "a piece of keys and the error")
	})
}

func TestEveryRequestOfASerializableScanIsSerializable(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	fill(t, c, prefix(t), 1000)
	o.around(func(req any) {
		if r, ok := req.(*pb.RangeRequest); ok {
			assert.True(t, r.Serializable)
		}
	}, nil)
	for _, reverse := range []bool{false, true} {
		opts := append(selection{reverse: reverse}.options(), etcd.WithSerializable())
		require.Len(t, scan(t, c.Scan(t.Context(), prefix(t), opts...)), 1000)
	}
}

// The first keys come with the second answer.
func TestFirstKeysOfAScanComeSoon(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	manyKeys(t, c, prefix(t))
	for _, opts := range [][]etcd.ScanOption{nil, {etcd.WithKeysOnly()}} {
		requests := o.during(func() {
			n := 0
			for _, err := range c.Scan(within(t, patience), prefix(t), opts...) {
				require.NoError(t, err)
				if n++; n == 64 {
					break
				}
			}
		})
		if hasRangeStream(t, srv) {
			require.Equal(t, []string{"Range", "RangeStream"}, requests)
		} else { // the revision, the stream that isn't there, a page, and one ahead
			require.LessOrEqual(t, len(requests), 4, "%v", requests)
		}
	}
}
