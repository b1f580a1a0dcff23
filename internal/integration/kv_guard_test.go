package integration

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// passing are the codes after which a request that may be sent again is.
var passing = []codes.Code{codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.Unavailable, codes.Internal}

func TestGuardedPutTakesTwoRoundTrips(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		for version, value := range []string{"", "1", "2"} {
			require.Equal(t, []string{"Range", "Txn"}, o.during(func() {
				assert.NoError(t, c.Put(t.Context(), prefix(t), []byte(value), etcd.WithGuard()))
			}))
			kv, err := c.GetKV(t.Context(), prefix(t))
			require.NoError(t, err)
			require.Equal(t, value, string(kv.Value))
			require.Equal(t, int64(version+1), kv.Version)
		}
	})
}

func TestGuardedPutWithALease(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	ctx, key := t.Context(), prefix(t)
	lease, err := c.Grant(ctx, busyTimeout)
	require.NoError(t, err)
	require.NoError(t, c.PutWithLease(ctx, key, nil, lease))
	require.NoError(t, c.Put(ctx, key, []byte("1"), etcd.WithGuard(), etcd.WithIgnoreLease()))
	kv, err := c.GetKV(ctx, key)
	require.NoError(t, err)
	require.Equal(t, lease, kv.Lease)
	err = c.Put(ctx, key, []byte("2"), etcd.WithGuard(), etcd.WithLease(lease+1))
	require.ErrorIs(t, err, etcd.ErrLeaseNotFound)
	require.False(t, etcd.MaybeApplied(err))
	require.NoError(t, c.Put(ctx, key, []byte("2"), etcd.WithGuard()))
	kv, err = c.GetKV(ctx, key)
	require.NoError(t, err)
	require.Zero(t, kv.Lease)
}

// Answers are lost, of requests that were carried out and of some that were not, and
// the put is executed once all the same.
func TestGuardedPutSurvivesLostAnswersAndExecutesOnce(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	for _, m := range modes {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		for _, code := range passing {
			for _, refuse := range []bool{false, true} {
				what := fmt.Sprint(m.name, " ", code, " ", refuse)
				key := prefix(t) + what
				require.NoError(t, c.Put(t.Context(), key, []byte("old")))
				s := &script{answer: status.Error(code, "injected"), writesOnly: true, times: 2, refuse: refuse}
				require.NoError(t, c.Put(faults.follow(t.Context(), s), key, []byte("new"), etcd.WithGuard()), what)
				require.Equal(t, int64(3), s.seen.Load(), what)
				kv, err := c.GetKV(t.Context(), key)
				require.NoError(t, err)
				require.Equal(t, "new", string(kv.Value), what)
				require.Equal(t, int64(2), kv.Version, what)
			}
		}
	}
}

// The same with another client that changes the key after the write whose answer is
// lost: what is stored is found in the history, and its successor is left alone.
func TestGuardedPutFindsItselfUnderALaterChange(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	for _, m := range modes {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		key := prefix(t) + m.name
		require.NoError(t, c.Put(t.Context(), key, []byte("old")))
		var n atomic.Int64
		s := &script{answer: status.Error(codes.Unavailable, "injected"), writesOnly: true, times: 1}
		s.arrived = func(context.Context) {
			if n.Add(1) == 2 { // before the second attempt
				assert.NoError(t, c.Put(t.Context(), key, []byte("later")))
				assert.NoError(t, c.Put(t.Context(), key, []byte("last")))
			}
		}
		require.NoError(t, c.Put(faults.follow(t.Context(), s), key, []byte("new"), etcd.WithGuard()), m.name)
		kv, err := c.GetKV(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, "last", string(kv.Value), m.name)
		require.Equal(t, int64(4), kv.Version, m.name)
	}
}

// A change that comes before a put whose request was lost makes it be bound anew.
func TestGuardedPutIsBoundAnewAfterAChange(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	for _, m := range modes {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		key := prefix(t) + m.name
		require.NoError(t, c.Put(t.Context(), key, []byte("old")))
		var once sync.Once
		s := &script{answer: status.Error(codes.Unavailable, "injected"), writesOnly: true, times: 1, refuse: true}
		s.arrived = func(context.Context) {
			once.Do(func() { assert.NoError(t, c.Put(t.Context(), key, []byte("other"))) })
		}
		require.NoError(t, c.Put(faults.follow(t.Context(), s), key, []byte("new"), etcd.WithGuard()), m.name)
		kv, err := c.GetKV(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, "new", string(kv.Value), m.name)
		require.Equal(t, int64(3), kv.Version, m.name)
	}
}

// That a key is missing may be so for the second time: a creation is sent once.
func TestGuardedCreationIsLookedForAndNeverRepeated(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	for _, m := range modes {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		for _, refuse := range []bool{false, true} {
			key := prefix(t) + m.name + strconv.FormatBool(refuse)
			s := &script{answer: status.Error(codes.Unavailable, "injected"), writesOnly: true, refuse: refuse}
			err := c.Put(faults.follow(t.Context(), s), key, []byte("new"), etcd.WithGuard())
			// Only what is encrypted is certainly its own.
			unknown := refuse || m.name == "plain" || m.name == "compressed"
			require.Equal(t, unknown, etcd.MaybeApplied(err), "%s: %v", m.name, err)
			require.Equal(t, unknown, err != nil)
			require.Equal(t, int64(1), s.seen.Load())
			exists, err := c.Exists(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, !refuse, exists)
		}
	}
}

// A key that was deleted after an answer was lost tells nothing.
func TestGuardedPutThatCannotBeFoundSaysSo(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	key := prefix(t)
	require.NoError(t, c.Put(t.Context(), key, []byte("old")))
	var n atomic.Int64
	s := &script{answer: status.Error(codes.Unavailable, "injected"), writesOnly: true, times: 1}
	s.arrived = func(context.Context) {
		if n.Add(1) == 2 {
			assert.NoError(t, second(c.Delete(t.Context(), key)))
		}
	}
	err := c.Put(faults.follow(t.Context(), s), key, []byte("new"), etcd.WithGuard())
	require.ErrorIs(t, err, etcd.ErrConflict)
	require.True(t, etcd.MaybeApplied(err))
	exists, err := c.Exists(t.Context(), key)
	require.NoError(t, err)
	require.False(t, exists, "a deletion was undone")
}

// Guarded puts of many at once are all executed, each once.
func TestGuardedPutsOfManyAreAllExecuted(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	ctx, key := t.Context(), prefix(t)
	require.NoError(t, c.Put(ctx, key, nil))
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				s := &script{answer: status.Error(codes.Unavailable, "injected"), writesOnly: true, times: 1, refuse: i%2 == 0}
				value := []byte(fmt.Sprint(w, " ", i))
				assert.NoError(t, c.Put(faults.follow(ctx, s), key, value, etcd.WithGuard()))
			}
		})
	}
	wg.Wait()
	kv, err := c.GetKV(ctx, key)
	require.NoError(t, err)
	require.Equal(t, int64(1+writers*each), kv.Version)
}
