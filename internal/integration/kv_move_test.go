package integration

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestMoveTakesValueAndLeaseAlong(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, from, to := t.Context(), prefix(t)+"from", prefix(t)+"to"
		lease, err := c.PutWithTTL(ctx, from, []byte("value"), time.Minute)
		require.NoError(t, err)
		require.Equal(t, []string{"Txn", "Txn"}, o.during(func() { err = c.MoveKey(ctx, from, to) }))
		require.NoError(t, err)

		kvs, err := c.GetPrefix(ctx, prefix(t), 0)
		require.NoError(t, err)
		require.Len(t, kvs, 1)
		require.Equal(t, to, kvs[0].Key)
		require.Equal(t, "value", string(kvs[0].Value))
		require.Equal(t, lease, kvs[0].Lease)
		// The lease takes the key with it, under its new name.
		require.NoError(t, c.RevokeLease(ctx, lease))
		count, err := c.Count(ctx, prefix(t))
		require.NoError(t, err)
		require.Zero(t, count)
	})
}

func TestMoveThatCannotBeChangesNothing(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "a": []byte("1"), p + "b": []byte("2")}))
		for _, tc := range []struct {
			from, to, key string
			want          error
			requests      int
		}{
			{p + "a", p + "b", p + "b", etcd.ErrKeyExists, 1},
			{p + "missing", p + "c", p + "missing", etcd.ErrKeyNotFound, 1},
			{p + "missing", p + "b", p + "missing", etcd.ErrKeyNotFound, 1},
			{p + "a", p + "a", p + "a", etcd.ErrKeyExists, 0},
			{p + "a", p + "a", p + "a", etcd.ErrInvalidArgument, 0},
			{"", p + "c", "", etcd.ErrEmptyKey, 0},
			{p + "a", "", "", etcd.ErrEmptyKey, 0},
		} {
			var err error
			requests := o.during(func() { err = c.MoveKey(ctx, tc.from, tc.to) })
			require.ErrorIs(t, err, tc.want)
			require.Len(t, requests, tc.requests)
			require.False(t, etcd.MaybeApplied(err))
			var e *etcd.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, tc.key, e.Key)
			require.Equal(t, "move", e.Op)
		}
		values, err := c.ListWithValues(ctx, p)
		require.NoError(t, err)
		require.Equal(t, map[string][]byte{p + "a": []byte("1"), p + "b": []byte("2")}, values)
	})
}

func TestMoveSeesWhatChangesUnderneath(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change  func(c *etcd.Client, from, to string) error
		want    error
		wantAll map[string]string
	}{
		"value": {
			func(c *etcd.Client, from, _ string) error { return c.Put(t.Context(), from, []byte("new")) },
			nil,
			map[string]string{"to": "new"},
		},
		"source deleted": {
			func(c *etcd.Client, from, _ string) error {
				_, err := c.Delete(t.Context(), from)
				return err
			},
			etcd.ErrKeyNotFound,
			map[string]string{},
		},
		"target created": {
			func(c *etcd.Client, _, to string) error { return c.Put(t.Context(), to, []byte("other")) },
			etcd.ErrKeyExists,
			map[string]string{"from": "old", "to": "other"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
				ctx, p := t.Context(), prefix(t)
				require.NoError(t, c.Put(ctx, p+"from", []byte("old")))
				var once sync.Once
				o.around(func(req any) {
					if conditional(req) {
						once.Do(func() { assert.NoError(t, tc.change(c, p+"from", p+"to")) })
					}
				}, nil)
				require.ErrorIs(t, c.MoveKey(ctx, p+"from", p+"to"), tc.want)
				values, err := c.ListWithValues(ctx, p)
				require.NoError(t, err)
				all := map[string]string{}
				for key, value := range values {
					all[key[len(p):]] = string(value)
				}
				require.Equal(t, tc.wantAll, all)
			})
		})
	}
}

func TestCopyEncryptsForItsPlaceLeavingTheSource(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, from, to := t.Context(), prefix(t)+"from", prefix(t)+"to"
		lease, err := c.PutWithTTL(ctx, from, []byte("value"), time.Minute)
		require.NoError(t, err)
		before, err := c.GetKV(ctx, from)
		require.NoError(t, err)
		require.Equal(t, []string{"Txn", "Txn"}, o.during(func() { err = c.CopyKey(ctx, from, to) }))
		require.NoError(t, err)
		after, err := c.GetKV(ctx, from)
		require.NoError(t, err)
		require.Equal(t, before, after)
		kv, err := c.GetKV(ctx, to) // it opens only in its own place
		require.NoError(t, err)
		require.Equal(t, "value", string(kv.Value))
		require.Equal(t, lease, kv.Lease)
		require.Equal(t, int64(1), kv.Version)

		for _, tc := range []struct {
			from, to string
			want     error
		}{
			{from, to, etcd.ErrKeyExists},
			{from + "missing", to + "2", etcd.ErrKeyNotFound},
			{from, from, etcd.ErrInvalidArgument},
		} {
			err := c.CopyKey(ctx, tc.from, tc.to)
			require.ErrorIs(t, err, tc.want)
			require.False(t, etcd.MaybeApplied(err))
		}
		count, err := c.Count(ctx, prefix(t))
		require.NoError(t, err)
		require.Equal(t, int64(2), count)
	})
}

// The copy is of the value that the source has at the moment of the copy.
func TestCopyIsOfOneMoment(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.Put(ctx, p+"from", []byte("old")))
		var once sync.Once
		o.around(func(req any) {
			if conditional(req) {
				once.Do(func() { assert.NoError(t, c.Put(ctx, p+"from", []byte("new"))) })
			}
		}, nil)
		require.NoError(t, c.CopyKey(ctx, p+"from", p+"to"))
		value, err := c.Get(ctx, p+"to")
		require.NoError(t, err)
		require.Equal(t, "new", string(value))
	})
}

// Two who pass a key around between them never make it two keys or none.
func TestMoveIsAtomic(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	ctx, p := t.Context(), prefix(t)
	require.NoError(t, c.Put(ctx, p+"0", []byte("ball")))
	var wg sync.WaitGroup
	for mover := range 2 {
		wg.Go(func() {
			for n := range 20 {
				from, to := (n+mover)%2, (n+mover+1)%2
				err := c.MoveKey(ctx, p+strconv.Itoa(from), p+strconv.Itoa(to))
				if err != nil {
					assert.True(t, etcdAny(err, etcd.ErrKeyNotFound, etcd.ErrKeyExists), "%v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		values, err := c.ListWithValues(ctx, p)
		require.NoError(t, err)
		require.Len(t, values, 1)
	}
}
