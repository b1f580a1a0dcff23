package integration

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestTransactLosesNoConcurrentIncrement(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		const workers, each = 8, 10
		ctx, key := within(t, time.Minute), prefix(t)+"counter"
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range each {
					assert.NoError(t, c.Transact(ctx, func(tx *etcd.Tx) error { return incrementIn(tx, key) }))
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

func TestTransactSettlesAStorm(t *testing.T) {
	t.Parallel()
	const workers, each = 32, 5
	c := client(t, config(server(t)).WithTimeout(busyTimeout))
	ctx, key := t.Context(), prefix(t)
	var runs atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				assert.NoError(t, c.Transact(ctx, func(tx *etcd.Tx) error {
					runs.Add(1)
					return incrementIn(tx, key)
				}))
			}
		})
	}
	wg.Wait()
	value, err := c.Get(ctx, key)
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(workers*each), string(value))
	t.Logf("%.1f runs for each commit", float64(runs.Load())/(workers*each))
	require.Less(t, runs.Load(), int64(15*workers*each)) // 2 to 5 measured; 24 without pauses
}

func TestTransactCostsWhatItSays(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		p := prefix(t)
		requests := func(f func(tx *etcd.Tx) error) []string {
			return o.during(func() { assert.NoError(t, c.Transact(t.Context(), f)) })
		}
		increment := func(tx *etcd.Tx) error { return incrementIn(tx, p+"n") }
		require.Equal(t, []string{"Range", "Txn"}, requests(increment))
		require.Empty(t, requests(func(*etcd.Tx) error { return nil }))
		require.Equal(t, []string{"Txn"}, requests(func(tx *etcd.Tx) error {
			tx.Put(p+"a", nil)
			tx.Put(p+"b", nil)
			tx.Delete(p + "missing")
			return nil
		}))
		// Each thing is read once, and what a prefix read has shown is known.
		require.Equal(t, []string{"Range", "Range"}, requests(func(tx *etcd.Tx) error {
			for range 2 {
				_, err := tx.Get(p + "a")
				assert.NoError(t, err)
				_, err = tx.GetPrefix(p)
				assert.NoError(t, err)
				_, err = tx.Get(p + "b")
				assert.NoError(t, err)
				_, err = tx.Get(p + "missing")
				assert.ErrorIs(t, err, etcd.ErrKeyNotFound)
			}
			return nil
		}))
	})
}

// The values come back with the first conflict, prefixes too. The second conflict
// makes the next run read anew.
func TestTransactCostsOneRequestMoreForAConflict(t *testing.T) {
	t.Parallel()
	for conflicts, want := range [][]string{
		{"Range", "Range", "Txn"},
		{"Range", "Range", "Txn", "Txn"},
		{"Range", "Range", "Txn", "Txn", "Range", "Range", "Txn"},
		{"Range", "Range", "Txn", "Txn", "Range", "Range", "Txn", "Txn"},
	} {
		t.Run(strconv.Itoa(conflicts), func(t *testing.T) {
			t.Parallel()
			srv, o := observedServer(t)
			c, other := client(t, config(srv).WithTimeout(busyTimeout)), client(t, config(srv))
			ctx, p := t.Context(), prefix(t)
			require.NoError(t, other.Put(ctx, p+"x/0", nil))
			var got []string
			attempts := 0
			seen := o.during(func() {
				require.NoError(t, c.Transact(ctx, func(tx *etcd.Tx) error {
					attempts++
					assert.Equal(t, attempts, tx.Attempt())
					assert.NoError(t, incrementIn(tx, p+"n"))
					kvs, err := tx.GetPrefix(p + "x/")
					assert.NoError(t, err)
					assert.Len(t, kvs, attempts)
					if attempts <= conflicts {
						// Not a key that is read: the prefix alone notices it.
						return other.Put(ctx, p+"x/"+strconv.Itoa(attempts), nil)
					}
					return nil
				}))
			})
			for _, method := range seen {
				if method != "Put" { // those of the other
					got = append(got, method)
				}
			}
			require.Equal(t, want, got)
			value, err := c.Get(ctx, p+"n")
			require.NoError(t, err)
			require.Equal(t, "1", string(value))
		})
	}
}

func TestTransactKeepsTheSumOfAllAccounts(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		const workers, each = 8, 8
		ctx, b := within(t, time.Minute), bank{t, prefix(t)}
		require.NoError(t, b.open(ctx, c))
		var wg sync.WaitGroup
		repeat := func(f func(tx *etcd.Tx) error) {
			wg.Go(func() {
				for range each {
					assert.NoError(t, c.Transact(ctx, f))
				}
			})
		}
		for range workers {
			repeat(b.transfer)
		}
		for range 2 {
			repeat(b.auditOneByOne)
			repeat(b.audit)
		}
		wg.Wait()
		require.NoError(t, c.Transact(ctx, b.audit))
	})
}

// Two on call, of which one must stay. Each looks at both and goes if the other is
// there, the second in the midst of the first.
func TestTransactHasNoWriteSkew(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "a": []byte("1"), p + "b": []byte("1")}))
		leave := func(who string, between func()) error {
			return c.Transact(ctx, func(tx *etcd.Tx) error {
				a, errA := numberIn(tx, p+"a")
				b, errB := numberIn(tx, p+"b")
				if tx.Attempt() == 1 {
					between()
				}
				if a+b == 2 {
					tx.Put(p+who, []byte("0"))
				}
				return errors.Join(errA, errB)
			})
		}
		require.NoError(t, leave("a", func() { assert.NoError(t, leave("b", func() {})) }))
		on, err := c.ListWithValues(ctx, p)
		require.NoError(t, err)
		require.Equal(t, map[string][]byte{p + "a": []byte("1"), p + "b": []byte("0")}, on)
	})
}

func TestTransactNoticesEveryChangeOfItsReads(t *testing.T) {
	t.Parallel()
	key := func(p string) func(tx *etcd.Tx) error {
		return func(tx *etcd.Tx) error { _, err := numberIn(tx, p+"in/b"); return err }
	}
	missing := func(p string) func(tx *etcd.Tx) error {
		return func(tx *etcd.Tx) error { _, err := numberIn(tx, p+"in/new"); return err }
	}
	under := func(p string) func(tx *etcd.Tx) error {
		return func(tx *etcd.Tx) error { _, err := tx.GetPrefix(p + "in/"); return err }
	}
	emptyPrefix := func(p string) func(tx *etcd.Tx) error {
		return func(tx *etcd.Tx) error { _, err := tx.GetPrefix(p + "in/new"); return err }
	}
	both := func(p string) func(tx *etcd.Tx) error {
		return func(tx *etcd.Tx) error { return errors.Join(key(p)(tx), missing(p)(tx), under(p)(tx)) }
	}
	covered := func(p string) func(tx *etcd.Tx) error {
		return func(tx *etcd.Tx) error { return errors.Join(under(p)(tx), key(p)(tx), missing(p)(tx)) }
	}
	overlapping := func(p string) func(tx *etcd.Tx) error {
		return func(tx *etcd.Tx) error {
			_, err := tx.GetPrefix(p + "in/b")
			return errors.Join(err, under(p)(tx))
		}
	}
	type read = func(p string) func(tx *etcd.Tx) error
	reads := []struct {
		name string
		f    read
	}{
		{"key", key},
		{"missing key", missing},
		{"prefix", under},
		{"empty prefix", emptyPrefix},
		{"keys, then their prefix", both},
		{"prefix, then its keys", covered},
		{"overlapping prefixes", overlapping},
	}
	put := func(ctx context.Context, c *etcd.Client, key string) error { return c.Put(ctx, key, []byte("1")) }
	del := func(ctx context.Context, c *etcd.Client, key string) error { _, err := c.Delete(ctx, key); return err }
	for _, change := range []struct {
		name    string
		f       func(ctx context.Context, c *etcd.Client, p string) error
		noticed []bool // by the reads, in their order
	}{
		{
			"change", func(ctx context.Context, c *etcd.Client, p string) error { return put(ctx, c, p+"in/b") },
			[]bool{true, false, true, false, true, true, true},
		},
		{
			"delete", func(ctx context.Context, c *etcd.Client, p string) error { return del(ctx, c, p+"in/b") },
			[]bool{true, false, true, false, true, true, true},
		},
		{
			"delete and create as it was", func(ctx context.Context, c *etcd.Client, p string) error {
				return errors.Join(del(ctx, c, p+"in/b"), put(ctx, c, p+"in/b"))
			},
			[]bool{true, false, true, false, true, true, true},
		},
		{
			"create", func(ctx context.Context, c *etcd.Client, p string) error { return put(ctx, c, p+"in/new") },
			[]bool{false, true, true, true, true, true, true},
		},
		{
			"create and delete", func(ctx context.Context, c *etcd.Client, p string) error {
				return errors.Join(put(ctx, c, p+"in/new"), del(ctx, c, p+"in/new"))
			},
			// Nothing has changed then.
			[]bool{false, false, false, false, false, false, false},
		},
		{
			"delete of the only other key", func(ctx context.Context, c *etcd.Client, p string) error { return del(ctx, c, p+"in/a") },
			[]bool{false, false, true, false, true, true, true},
		},
		{
			"change beside", func(ctx context.Context, c *etcd.Client, p string) error { return put(ctx, c, p+"in0") },
			[]bool{false, false, false, false, false, false, false},
		},
	} {
		t.Run(change.name, func(t *testing.T) {
			t.Parallel()
			inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
				ctx := t.Context()
				for i, read := range reads {
					p := fmt.Sprintf("%s%d/", prefix(t), i)
					require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "in/a": []byte("1"), p + "in/b": []byte("1")}))
					attempts := 0
					require.NoError(t, c.Transact(ctx, func(tx *etcd.Tx) error {
						attempts = tx.Attempt()
						err := read.f(p)(tx)
						if attempts == 1 {
							assert.NoError(t, change.f(ctx, c, p))
						}
						tx.Put(p+"out", []byte(strconv.Itoa(attempts)))
						return err
					}), read.name)
					require.Equal(t, change.noticed[i], attempts == 2, read.name)
					value, err := c.Get(ctx, p+"out")
					require.NoError(t, err)
					require.Equal(t, strconv.Itoa(attempts), string(value))
				}
			})
		})
	}
}

func TestTransactReadsOneRevision(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		both := func(n int) error {
			value := []byte(strconv.Itoa(n))
			return c.BulkPut(ctx, map[string][]byte{p + "a": value, p + "b": value, p + "c/1": value})
		}
		require.NoError(t, both(1))
		var seen [][]int
		require.NoError(t, c.Transact(ctx, func(tx *etcd.Tx) error {
			n := tx.Attempt()
			a, errA := numberIn(tx, p+"a")
			if n < 4 { // between the reads, in runs that begin anew and in others
				assert.NoError(t, both(n+1))
			}
			b, errB := numberIn(tx, p+"b")
			kvs, err := tx.GetPrefix(p + "c/")
			assert.Len(t, kvs, 1)
			c, errC := strconv.Atoi(string(kvs[0].Value))
			seen = append(seen, []int{a, b, c})
			tx.Put(p+"sum", nil)
			return errors.Join(errA, errB, err, errC)
		}))
		require.Equal(t, [][]int{{1, 1, 1}, {2, 2, 2}, {3, 3, 3}, {4, 4, 4}}, seen)
	})
}

func TestTransactRunsAgainWhenItsRevisionIsCompacted(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx, p := t.Context(), prefix(t)
	var errs []error
	require.NoError(t, c.Transact(ctx, func(tx *etcd.Tx) error {
		a, err := numberIn(tx, p+"a")
		assert.NoError(t, err)
		if tx.Attempt() == 1 {
			assert.NoError(t, c.Put(ctx, p+"a", []byte("5")))
			_, err := c.Raw().Compact(ctx, revisionOf(t, c))
			assert.NoError(t, err)
		}
		_, err = numberIn(tx, p+"b")
		errs = append(errs, err)
		tx.Put(p+"a", []byte(strconv.Itoa(a+1)))
		return nil // though the read failed
	}))
	require.Len(t, errs, 2)
	require.ErrorIs(t, errs[0], etcd.ErrCompacted)
	require.NoError(t, errs[1])
	value, err := c.Get(ctx, p+"a")
	require.NoError(t, err)
	require.Equal(t, "6", string(value))
}

// What comes back with a conflict is bounded, and never taken for the whole.
func TestTransactSeesAllOfAnOvergrownPrefix(t *testing.T) {
	t.Parallel()
	cfg := config(server(t))
	cfg.MaxTxnOps = 4
	c := client(t, cfg)
	ctx, p := t.Context(), prefix(t)
	require.NoError(t, c.Put(ctx, p+"0", nil))
	var found []int
	err := c.Transact(ctx, func(tx *etcd.Tx) error {
		kvs, err := tx.GetPrefix(p)
		found = append(found, len(kvs))
		for i := range 9 {
			if tx.Attempt() == 1 {
				assert.NoError(t, c.Put(ctx, p+strconv.Itoa(i+1), nil))
			}
		}
		tx.Put("elsewhere", nil)
		return err
	})
	require.Equal(t, []int{1, 10}, found)
	require.ErrorIs(t, err, etcd.ErrTooManyOps)
}
