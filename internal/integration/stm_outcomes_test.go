package integration

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

func TestTransactReadsWhatItHasWritten(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "a": []byte("1"), p + "c": []byte("3"), p + "d": []byte("4")}))
		list := func(tx *etcd.Tx) (out []string, _ error) {
			kvs, err := tx.GetPrefix(p)
			for _, kv := range kvs {
				out = append(out, kv.Key[len(p):]+"="+string(kv.Value))
				kv.Value = append(kv.Value[:0], "spoiled"...) // the caller's own
			}
			return out, err
		}
		// What the last run has read, which is the one that counts.
		var before, after, each []string
		var deleted error
		require.NoError(t, c.Transact(ctx, func(tx *etcd.Tx) (err error) {
			if before, err = list(tx); err != nil {
				return err
			}
			value := []byte("2")
			tx.Put(p+"b", value)
			value[0] = 'x'
			tx.Delete(p + "c")
			tx.Put(p+"a", []byte("0"))
			tx.Put(p+"a", []byte{})
			if after, err = list(tx); err != nil {
				return err
			}
			each = nil
			for _, key := range []string{"a", "a", "b", "b", "d", "d"} {
				got, err := tx.Get(p + key)
				if err != nil {
					return err
				}
				each = append(each, fmt.Sprintf("%s=%s nil: %t", key, got, got == nil))
				_ = append(got[:0], "x"...)
			}
			_, deleted = tx.Get(p + "c")
			tx.Put(p+"e", nil)
			tx.Delete(p + "e")
			tx.Delete(p + "d")
			tx.Put(p+"d", nil)
			return nil
		}))
		require.Equal(t, []string{"a=1", "c=3", "d=4"}, before)
		require.Equal(t, []string{"a=", "b=2", "d=4"}, after)
		require.Equal(t, []string{
			"a= nil: false", "a= nil: false", "b=2 nil: false", "b=2 nil: false", "d=4 nil: false", "d=4 nil: false",
		}, each)
		require.ErrorIs(t, deleted, etcd.ErrKeyNotFound)
		got, err := c.ListWithValues(ctx, p)
		require.NoError(t, err)
		require.Equal(t, map[string][]byte{p + "a": {}, p + "b": []byte("2"), p + "d": {}}, got)
	})
}

func TestTransactPutsWithALease(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	ctx, p := t.Context(), prefix(t)
	lease, err := c.Grant(ctx, time.Minute)
	require.NoError(t, err)
	put := func(opts ...etcd.PutOption) error {
		return c.Transact(ctx, func(tx *etcd.Tx) error {
			err := addIn(tx, p+"n", 1)
			tx.Put(p+"n", []byte("n"), opts...)
			return err
		})
	}
	leaseOf := func() etcd.LeaseID {
		kv, err := c.GetKV(ctx, p+"n")
		require.NoError(t, err)
		require.NoError(t, c.Put(ctx, p+"n", []byte("0"), etcd.WithIgnoreLease()))
		return kv.Lease
	}
	err = put(etcd.WithIgnoreLease())
	require.ErrorIs(t, err, etcd.ErrKeyNotFound) // of the server, which has done nothing
	require.False(t, etcd.MaybeApplied(err))
	require.NoError(t, put(etcd.WithLease(lease)))
	require.Equal(t, lease, leaseOf())
	require.NoError(t, put(etcd.WithIgnoreLease()))
	require.Equal(t, lease, leaseOf())
	require.NoError(t, put())
	require.Zero(t, leaseOf())
}

func TestTransactWritesNothingWhenItsFunctionFails(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, key := t.Context(), prefix(t)
	refused := errors.New("refused")
	runs := 0
	err := c.Transact(ctx, func(tx *etcd.Tx) error {
		runs++
		if err := incrementIn(tx, key); err != nil {
			return err
		}
		return refused
	})
	require.Equal(t, refused, err)

	panicked := func() (value any) {
		defer func() { value = recover() }()
		_ = c.Transact(ctx, func(tx *etcd.Tx) error {
			runs++
			if err := incrementIn(tx, key); err != nil {
				return err
			}
			panic(refused)
		})
		return nil
	}
	require.Equal(t, refused, panicked())
	require.Equal(t, 2, runs)
	exists, err := c.Exists(ctx, key)
	require.NoError(t, err)
	require.False(t, exists)
}

func TestTransactThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	ctx := t.Context()
	nothing := func(*etcd.Tx) error { return nil }
	put := func(key string, value []byte) func(tx *etcd.Tx) error {
		return func(tx *etcd.Tx) error { tx.Put(key, value); return nil }
	}
	long := make([]byte, etcd.DefaultMaxKeyBytes+1)
	closed, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	require.Empty(t, o.during(func() {
		for want, err := range map[error][]error{
			etcd.ErrInvalidArgument: {
				c.Transact(ctx, nil),
				c.Transact(ctx, nothing, etcd.WithMaxAttempts(0)),
			},
			etcd.ErrNilContext: {c.Transact(nil, nothing)}, //nolint:staticcheck // that is the test
			etcd.ErrClosed:     {closed.Transact(ctx, nothing)},
			etcd.ErrEmptyKey: {
				c.Transact(ctx, put("", nil)),
				c.Transact(ctx, func(tx *etcd.Tx) error { tx.Delete(""); return nil }),
				c.Transact(ctx, func(tx *etcd.Tx) error { _, _ = tx.Get(""); return nil }),
			},
			etcd.ErrTooLarge: {
				c.Transact(ctx, put(string(long), nil)),
				c.Transact(ctx, put("key", make([]byte, etcd.DefaultMaxRequestBytes))),
				c.Transact(ctx, func(tx *etcd.Tx) error { _, _ = tx.GetPrefix(string(long)); return nil }),
			},
		} {
			for i, err := range err {
				assert.ErrorIs(t, err, want, i)
				assert.False(t, etcd.MaybeApplied(err))
			}
		}
	}))
}

func TestTransactIsVoidAfterAFailedRead(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv))
	own := errors.New("what the function makes of it")
	get := func(tx *etcd.Tx, key string) error { _, err := tx.Get(key); return err }
	getPrefix := func(tx *etcd.Tx, key string) error { _, err := tx.GetPrefix(key); return err }
	for i, read := range []func(tx *etcd.Tx, key string) error{get, getPrefix} {
		for name, made := range map[string]func(error) error{
			"hidden":   func(error) error { return nil },
			"replaced": func(error) error { return own },
			"wrapped":  func(err error) error { return fmt.Errorf("%w: %w", own, err) },
		} {
			key := fmt.Sprintf("%s%s/%d", prefix(t), name, i)
			s := &script{answer: status.Error(codes.PermissionDenied, "injected"), times: 1, refuse: true}
			runs := 0
			var failed error
			err := c.Transact(faults.follow(t.Context(), s), func(tx *etcd.Tx) error {
				runs++
				failed = read(tx, key)
				tx.Put(key, []byte("made of nothing"))
				return made(failed)
			})
			require.Error(t, failed, name)
			require.ErrorIs(t, err, etcd.ErrPermissionDenied, name)
			require.Equal(t, name == "wrapped", errors.Is(err, own), name)
			require.Equal(t, 1, runs)
			exists, err := c.Exists(t.Context(), key)
			require.NoError(t, err)
			require.False(t, exists, name)
		}
	}
}

func TestTransactIsVoidAfterReadingAForeignValue(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, plain := client(t, config(srv).WithEncryption(testKey)), client(t, config(srv))
	ctx, key := t.Context(), prefix(t)
	require.NoError(t, plain.Put(ctx, key, []byte("planted")))
	for _, read := range []func(tx *etcd.Tx) error{
		func(tx *etcd.Tx) error { _, err := tx.Get(key); return err },
		func(tx *etcd.Tx) error { _, err := tx.GetPrefix(key); return err },
	} {
		var failed error
		err := c.Transact(ctx, func(tx *etcd.Tx) error {
			failed = read(tx)
			tx.Put(key, []byte("new"))
			return nil
		})
		require.Error(t, failed)
		var decode *etcd.DecodeError
		require.ErrorAs(t, err, &decode)
		require.Equal(t, key, decode.Key)
		require.ErrorIs(t, err, etcd.ErrNotEncrypted)
		value, err := plain.Get(ctx, key)
		require.NoError(t, err)
		require.Equal(t, "planted", string(value))
	}
}

func TestTransactGivesUpAfterItsAttempts(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, key := t.Context(), prefix(t)
	for bound := 1; bound <= 3; bound++ {
		var attempts []int
		err := c.Transact(ctx, func(tx *etcd.Tx) error {
			attempts = append(attempts, tx.Attempt())
			return errors.Join(incrementIn(tx, key), c.Put(ctx, key, []byte("0")))
		}, etcd.WithMaxAttempts(bound))
		require.ErrorIs(t, err, etcd.ErrConflict)
		require.ErrorContains(t, err, strconv.Itoa(bound)+" attempts")
		require.False(t, etcd.MaybeApplied(err))
		require.Equal(t, []int{1, 2, 3}[:bound], attempts)
		value, err := c.Get(ctx, key)
		require.NoError(t, err)
		require.Equal(t, "0", string(value))
	}
}

// interfering is a function whose every commit fails; act is called in the given
// run.
func interfering(t *testing.T, c *etcd.Client, key string, run int, act func()) func(tx *etcd.Tx) error {
	return func(tx *etcd.Tx) error {
		if err := incrementIn(tx, key); err != nil {
			return err
		}
		if err := c.Put(t.Context(), key, []byte("0")); err != nil {
			return err
		}
		if tx.Attempt() == run {
			act()
		}
		return nil
	}
}

func TestTransactEndsWithItsContext(t *testing.T) {
	t.Parallel()
	srv := server(t)
	other := client(t, config(srv))
	for _, during := range []string{"pause", "run"} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		commits := 0
		c := client(t, config(srv).WithHooks(hook{after: func(req etcd.RequestInfo, _ etcd.ResultInfo) {
			if !req.Write {
				return
			}
			if commits++; commits == 2 && during == "pause" {
				cancel()
			}
		}}))
		err := c.Transact(ctx, interfering(t, other, prefix(t), 2, func() {
			if during == "run" {
				cancel()
			}
		}))
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, etcd.ErrConflict, during)
		require.False(t, etcd.MaybeApplied(err))
	}
	value, err := other.Get(t.Context(), prefix(t))
	require.NoError(t, err)
	require.Equal(t, "0", string(value))
}

func TestTransactHasOneDeadlineForAllItsRuns(t *testing.T) {
	t.Parallel()
	srv := server(t)
	c, other := client(t, config(srv).WithTimeout(300*time.Millisecond)), client(t, config(srv))
	err := c.Transact(context.Background(), interfering(t, other, prefix(t), 0, nil))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestTransactEndsWithItsClient(t *testing.T) {
	t.Parallel()
	srv := server(t)
	other := client(t, config(srv))
	c, err := etcd.NewClient(config(srv))
	require.NoError(t, err)
	closed := make(chan struct{})
	err = c.Transact(within(t, time.Minute), interfering(t, other, prefix(t), 3, func() {
		go func() { defer close(closed); assert.NoError(t, c.Close()) }()
	}))
	require.ErrorIs(t, err, etcd.ErrClosed)
	<-closed
}

func TestTransactNeverRunsOnItsOwnResult(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv))
	key := prefix(t)
	runs := 0
	s := &script{answer: status.Error(codes.Unavailable, "injected"), writesOnly: true}
	err := c.Transact(faults.follow(t.Context(), s), func(tx *etcd.Tx) error {
		runs++
		return incrementIn(tx, key)
	})
	require.ErrorIs(t, err, etcd.ErrUnavailable)
	require.True(t, etcd.MaybeApplied(err))
	require.Equal(t, 1, runs)
	value, err := c.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, "1", string(value))
}

func TestTransactGoesUpToTheLimitOfOperations(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	ctx, p := t.Context(), prefix(t)
	key := func(i int) string { return fmt.Sprintf("%s%03d", p, i) }
	var err error
	commits := func(f func(tx *etcd.Tx) error) int {
		n := 0
		for _, method := range o.during(func() { err = c.Transact(ctx, f) }) {
			if method == "Txn" {
				n++
			}
		}
		return n
	}
	write := func(n int) func(tx *etcd.Tx) error {
		return func(tx *etcd.Tx) error {
			for i := range n {
				tx.Put(key(i), nil)
			}
			return nil
		}
	}
	read := func(n int, then func(tx *etcd.Tx) error) func(tx *etcd.Tx) error {
		return func(tx *etcd.Tx) error {
			for i := range n {
				if _, err := numberIn(tx, key(i)+"-missing"); err != nil {
					return err
				}
			}
			return then(tx)
		}
	}
	readPrefix := func(want int, then func(tx *etcd.Tx) error) func(tx *etcd.Tx) error {
		return func(tx *etcd.Tx) error {
			kvs, err := tx.GetPrefix(p)
			if err == nil && len(kvs) != want {
				err = fmt.Errorf("%d keys under the prefix, not %d", len(kvs), want)
			}
			if err != nil {
				return err
			}
			return then(tx)
		}
	}

	require.Equal(t, 1, commits(write(127)))
	require.NoError(t, err)
	// A key that is read and also under a prefix counts once, and the prefix one.
	require.Equal(t, 1, commits(func(tx *etcd.Tx) error {
		_, err := tx.Get(key(0))
		return errors.Join(err, readPrefix(127, write(128))(tx))
	}))
	require.NoError(t, err)
	require.Equal(t, 1, commits(read(128, write(128))))
	require.NoError(t, err)

	require.Empty(t, o.during(func() { err = c.Transact(ctx, write(129)) }))
	require.ErrorIs(t, err, etcd.ErrTooManyOps)
	require.Zero(t, commits(read(129, write(1))))
	require.ErrorIs(t, err, etcd.ErrTooManyOps)
	require.Zero(t, commits(readPrefix(128, write(1))))
	require.ErrorIs(t, err, etcd.ErrTooManyOps)

	require.Zero(t, commits(read(129, readPrefix(128, write(0)))))
	require.NoError(t, err) // reads alone have no limit
}

func TestTransactLeavesATxThatReadsNothing(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	var kept *etcd.Tx
	require.NoError(t, c.Transact(within(t, time.Minute), func(tx *etcd.Tx) error {
		kept = tx
		return tx.Context().Err()
	}))
	require.Error(t, kept.Context().Err())
	require.Empty(t, o.during(func() {
		_, err := kept.Get("key")
		assert.ErrorIs(t, err, context.Canceled)
	}))
}
