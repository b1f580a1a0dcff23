package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestPutIfChangedWritesOnlyWhatChanges(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, key := t.Context(), prefix(t)
		lease, err := c.Grant(ctx, time.Minute)
		require.NoError(t, err)
		one, two := []string{"Txn"}, []string{"Txn", "Txn"}
		for _, tc := range []struct {
			name, value string
			opts        []etcd.PutOption
			written     bool
			version     int64
			lease       etcd.LeaseID
		}{
			{"created", "", nil, true, 1, 0},
			{"equal and empty", "", nil, false, 1, 0},
			{"another", "value", nil, true, 2, 0},
			{"equal", "value", nil, false, 2, 0},
			{"equal, lease attached", "value", []etcd.PutOption{etcd.WithLease(lease)}, true, 3, lease},
			{"equal, same lease", "value", []etcd.PutOption{etcd.WithLease(lease)}, false, 3, lease},
			{"equal, lease ignored", "value", []etcd.PutOption{etcd.WithIgnoreLease()}, false, 3, lease},
			{"another, lease ignored", "new", []etcd.PutOption{etcd.WithIgnoreLease()}, true, 4, lease},
			{"equal, lease detached", "new", nil, true, 5, 0},
		} {
			want := one
			if tc.written {
				want = two
			}
			require.Equal(t, want, o.during(func() {
				written, err := c.PutIfChanged(ctx, key, []byte(tc.value), tc.opts...)
				assert.NoError(t, err, tc.name)
				assert.Equal(t, tc.written, written, tc.name)
			}), tc.name)
			kv, err := c.GetKV(ctx, key)
			require.NoError(t, err)
			require.Equal(t, tc.value, string(kv.Value), tc.name)
			require.Equal(t, tc.version, kv.Version, tc.name)
			require.Equal(t, tc.lease, kv.Lease, tc.name)
		}
		_, err = c.PutIfChanged(ctx, key+"missing", nil, etcd.WithIgnoreLease())
		require.ErrorIs(t, err, etcd.ErrKeyNotFound)
		require.False(t, etcd.MaybeApplied(err))
	})
}

// Between the comparison and the write, another client makes the value equal, or
// different once more.
func TestPutIfChangedSeesWhatChangesUnderneath(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		meanwhile string
		written   bool
		version   int64
	}{
		"equal now":       {"new", false, 2},
		"different again": {"other", true, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
				ctx, key := t.Context(), prefix(t)
				require.NoError(t, c.Put(ctx, key, []byte("old")))
				once := make(chan struct{}, 1)
				once <- struct{}{}
				o.around(func(req any) {
					if !conditional(req) {
						return
					}
					select {
					case <-once:
						assert.NoError(t, c.Put(ctx, key, []byte(tc.meanwhile)))
					default:
					}
				}, nil)
				written, err := c.PutIfChanged(ctx, key, []byte("new"))
				require.NoError(t, err)
				require.Equal(t, tc.written, written)
				kv, err := c.GetKV(ctx, key)
				require.NoError(t, err)
				require.Equal(t, "new", string(kv.Value))
				require.Equal(t, tc.version, kv.Version)
			})
		})
	}
}

func TestPutIfChangedLeavesUndecodableValuesAlone(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c := client(t, config(srv).WithEncryption(testKey))
	ctx, key := t.Context(), prefix(t)
	plant(t, c, key, "not encrypted")
	written, err := c.PutIfChanged(ctx, key, []byte("new"))
	require.ErrorIs(t, err, etcd.ErrNotEncrypted)
	require.False(t, written)
	require.False(t, etcd.MaybeApplied(err))
	require.Equal(t, "not encrypted", storedBytes(t, c, key))
}
