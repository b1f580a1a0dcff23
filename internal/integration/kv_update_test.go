package integration

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestUpdateLosesNoConcurrentIncrement(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		const workers, each = 6, 10
		ctx, key := within(t, time.Minute), prefix(t)+"counter"
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range each {
					assert.NoError(t, c.Update(ctx, key, increment))
				}
			})
		}
		wg.Wait()
		kv, err := c.GetKV(ctx, key)
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(workers*each), string(kv.Value))
		require.Equal(t, int64(workers*each), kv.Version)
	})
}

func TestUpdateTakesTwoRoundTrips(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, key := t.Context(), prefix(t)+"key"
		var err error
		update := func(f func([]byte) ([]byte, error)) []string {
			return o.during(func() { err = c.Update(ctx, key, f) })
		}
		require.Equal(t, []string{"Txn", "Txn"}, update(increment))
		require.NoError(t, err)

		refused := errors.New("refused")
		require.Equal(t, []string{"Txn"}, update(func([]byte) ([]byte, error) { return []byte("lost"), refused }))
		require.Equal(t, refused, err)

		missing := func(old []byte) ([]byte, error) {
			assert.Nil(t, old)
			return nil, nil
		}
		require.Equal(t, []string{"Txn", "Txn"}, update(func(old []byte) ([]byte, error) {
			assert.Equal(t, "1", string(old))
			return nil, nil
		}))
		require.NoError(t, err)
		exists, err := c.Exists(ctx, key)
		require.NoError(t, err)
		require.False(t, exists)
		require.Equal(t, []string{"Txn"}, update(missing))
		require.NoError(t, err)
	})
}

func TestUpdateTellsEmptyValuesFromMissingKeys(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, key := t.Context(), prefix(t)+"key"
		for _, want := range [][]byte{nil, {}} {
			require.NoError(t, c.Update(ctx, key, func(old []byte) ([]byte, error) {
				assert.Equal(t, want, old)
				return []byte{}, nil
			}))
		}
	})
}

func TestUpdateKeepsTheLease(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	ctx, key := t.Context(), prefix(t)
	lease, err := c.PutWithTTL(ctx, key, []byte("1"), time.Minute)
	require.NoError(t, err)
	require.NoError(t, c.Update(ctx, key, increment))
	kv, err := c.GetKV(ctx, key)
	require.NoError(t, err)
	require.Equal(t, "2", string(kv.Value))
	require.Equal(t, lease, kv.Lease)
}

// A competitor that changes the key after every failed try, so that what the
// failed try brought along is always out of date.
func TestUpdateIsNotStarvedByAFasterWriter(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	ctx, key := t.Context(), prefix(t)
	require.NoError(t, c.Put(ctx, key, []byte("0")))
	other := func() { assert.NoError(t, c.Put(ctx, key, []byte("100"))) }
	var once sync.Once
	o.around(func(req any) {
		if conditional(req) {
			once.Do(other)
		}
	}, func(req any) {
		if conditional(req) {
			other()
		}
	})
	var seen []string
	require.NoError(t, c.Update(ctx, key, func(old []byte) ([]byte, error) {
		seen = append(seen, string(old))
		return increment(old)
	}))
	require.Equal(t, []string{"0", "100", "100"}, seen)
}

func TestUpdateOfAnEverChangingKeyConflicts(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	// The caller gives up when the first round is over: a read and two tries.
	requests := 0
	c := client(t, config(srv).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if req.Op != "update" {
			return
		}
		if requests++; requests == 3 {
			cancel()
		}
	}}))
	other, key := client(t, config(srv)), prefix(t)
	o.around(func(req any) {
		if conditional(req) {
			assert.NoError(t, other.Put(t.Context(), key, []byte("other")))
		}
	}, nil)

	err := c.Update(ctx, key, func([]byte) ([]byte, error) { return []byte("mine"), nil })
	require.ErrorIs(t, err, etcd.ErrConflict)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, etcd.MaybeApplied(err))
	value, err := other.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, "other", string(value))
}

func TestUpdateEndsWithItsClient(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	requests := 0
	var c *etcd.Client
	c = client(t, config(srv).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
		if req.Op != "update" {
			return
		}
		if requests++; requests == 3 { // a read and two tries: a pause comes next
			assert.NoError(t, c.Close())
		}
	}}))
	other, key := client(t, config(srv)), prefix(t)
	o.around(func(req any) {
		if conditional(req) {
			assert.NoError(t, other.Put(t.Context(), key, nil))
		}
	}, nil)
	err := c.Update(t.Context(), key, func([]byte) ([]byte, error) { return []byte("mine"), nil })
	require.ErrorIs(t, err, etcd.ErrClosed)
	require.NotErrorIs(t, err, etcd.ErrConflict)
	require.False(t, etcd.MaybeApplied(err))
}

func TestUpdateWithoutAFunctionIsRefused(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	require.ErrorIs(t, c.Update(t.Context(), "key", nil), etcd.ErrInvalidArgument)
}
