package integration

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestCompareAndSwapComparesTheValue(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, key := t.Context(), prefix(t)+"key"
		swap := func(old, next string) bool {
			t.Helper()
			swapped, err := c.CompareAndSwap(ctx, key, []byte(old), []byte(next))
			require.NoError(t, err)
			return swapped
		}
		require.False(t, swap("", "1"), "a missing key has no value, not an empty one")
		exists, err := c.Exists(ctx, key)
		require.NoError(t, err)
		require.False(t, exists)

		require.NoError(t, c.Put(ctx, key, nil))
		require.True(t, swap("", "10"))
		require.True(t, swap("10", "20"))
		require.False(t, swap("15", "30"))
		require.False(t, swap("", "30"))
		value, err := c.Get(ctx, key)
		require.NoError(t, err)
		require.Equal(t, "20", string(value))

		deleted, err := c.CompareAndDelete(ctx, key, []byte("10"))
		require.NoError(t, err)
		require.False(t, deleted)
		deleted, err = c.CompareAndDelete(ctx, key, []byte("20"))
		require.NoError(t, err)
		require.True(t, deleted)
		deleted, err = c.CompareAndDelete(ctx, key, []byte("20"))
		require.NoError(t, err)
		require.False(t, deleted)
	})
}

func TestCompareAndSwapCostsWhatItSays(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, key := t.Context(), prefix(t)+"key"
		want := []string{"Txn"}
		if t.Name() != "TestCompareAndSwapCostsWhatItSays/plain" {
			want = []string{"Txn", "Txn"}
		}
		require.NoError(t, c.Put(ctx, key, []byte("1")))
		require.Equal(t, want, o.during(func() {
			swapped, err := c.CompareAndSwap(ctx, key, []byte("1"), []byte("2"))
			assert.NoError(t, err)
			assert.True(t, swapped)
		}))
		require.Equal(t, want, o.during(func() {
			deleted, err := c.CompareAndDelete(ctx, key, []byte("2"))
			assert.NoError(t, err)
			assert.True(t, deleted)
		}))
		require.Equal(t, []string{"Txn"}, o.during(func() {
			swapped, err := c.CompareAndSwapRevision(ctx, key, 0, []byte("1"))
			assert.NoError(t, err)
			assert.True(t, swapped)
		}))
	})
}

func TestCompareAndSwapByManyLosesNothing(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		const workers, each = 4, 8
		ctx, key := within(t, time.Minute), prefix(t)+"counter"
		require.NoError(t, c.Put(ctx, key, []byte("0")))
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for done := 0; done < each && ctx.Err() == nil; {
					old, err := c.Get(ctx, key)
					assert.NoError(t, err)
					next, err := increment(old)
					assert.NoError(t, err)
					swapped, err := c.CompareAndSwap(ctx, key, old, next)
					assert.NoError(t, err)
					if swapped {
						done++
					}
				}
			})
		}
		wg.Wait()
		value, err := c.Get(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(workers*each), string(value))
	})
}

// A change between the read and the commit of a swap is seen, whatever it is.
func TestCompareAndSwapSeesChangesBetweenRoundTrips(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, change string
		want         bool
	}{
		{"to another value", "other", false},
		{"to the same value", "old", true},
		{"by a delete", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
				ctx, key := t.Context(), prefix(t)+"key"
				require.NoError(t, c.Put(ctx, key, []byte("old")))
				var changes atomic.Int64
				o.around(func(req any) {
					if !conditional(req) || changes.Add(1) > 1 {
						return
					}
					var err error
					if tc.change == "" {
						_, err = c.Delete(ctx, key)
					} else {
						err = c.Put(ctx, key, []byte(tc.change))
					}
					assert.NoError(t, err)
				}, nil)
				swapped, err := c.CompareAndSwap(ctx, key, []byte("old"), []byte("new"))
				require.NoError(t, err)
				require.Equal(t, tc.want, swapped)
				require.Positive(t, changes.Load())

				values, err := c.ListWithValues(ctx, key)
				require.NoError(t, err)
				want := map[string][]byte{key: []byte(tc.change)}
				switch {
				case tc.want:
					want[key] = []byte("new")
				case tc.change == "":
					want = map[string][]byte{}
				}
				require.Equal(t, want, values)
			})
		})
	}
}

func TestCompareAndSwapHandlesTheLeaseAsAsked(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, key := t.Context(), prefix(t)+"key"
		lease, err := c.PutWithTTL(ctx, key, []byte("1"), time.Minute)
		require.NoError(t, err)
		for _, tc := range []struct {
			old, next string
			opts      []etcd.PutOption
			want      etcd.LeaseID
		}{
			{"1", "2", []etcd.PutOption{etcd.WithIgnoreLease()}, lease},
			{"2", "3", nil, 0},
			{"3", "4", []etcd.PutOption{etcd.WithLease(lease)}, lease},
		} {
			swapped, err := c.CompareAndSwap(ctx, key, []byte(tc.old), []byte(tc.next), tc.opts...)
			require.NoError(t, err)
			require.True(t, swapped)
			kv, err := c.GetKV(ctx, key)
			require.NoError(t, err)
			require.Equal(t, tc.want, kv.Lease)
		}
	})
}

func TestCompareAndSwapRevisionNoticesARevertedChange(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, key := t.Context(), prefix(t)+"key"
		swapped, err := c.CompareAndSwapRevision(ctx, key, 0, []byte("a"))
		require.NoError(t, err)
		require.True(t, swapped)
		swapped, err = c.CompareAndSwapRevision(ctx, key, 0, []byte("b"))
		require.NoError(t, err)
		require.False(t, swapped)

		_, stale, err := c.GetWithRevision(ctx, key)
		require.NoError(t, err)
		require.NoError(t, c.Put(ctx, key, []byte("b")))
		require.NoError(t, c.Put(ctx, key, []byte("a")))
		swapped, err = c.CompareAndSwapRevision(ctx, key, stale, []byte("c"))
		require.NoError(t, err)
		require.False(t, swapped)
		deleted, err := c.CompareAndDeleteRevision(ctx, key, stale)
		require.NoError(t, err)
		require.False(t, deleted)

		_, fresh, err := c.GetWithRevision(ctx, key)
		require.NoError(t, err)
		deleted, err = c.CompareAndDeleteRevision(ctx, key, fresh)
		require.NoError(t, err)
		require.True(t, deleted)
		deleted, err = c.CompareAndDeleteRevision(ctx, key, fresh)
		require.NoError(t, err)
		require.False(t, deleted)
	})
}
