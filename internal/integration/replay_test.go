package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestReplayedWritesAreReportedAsApplied(t *testing.T) {
	t.Parallel()
	srv, proxy := replayingServer(t)
	other := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	for _, m := range encryptedModes {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		is := func(ok bool, err error) error {
			if err == nil && !ok {
				return errors.New("false of what was applied")
			}
			return err
		}
		for name, write := range map[string]func(ctx context.Context, key string, revision int64, r *etcd.WriteResult) error{
			"CompareAndSwap": func(ctx context.Context, key string, _ int64, r *etcd.WriteResult) error {
				return is(c.CompareAndSwap(ctx, key, []byte("old"), []byte("new"), etcd.WithResult(r), etcd.WithPrevKV()))
			},
			"CompareAndSwapRevision": func(ctx context.Context, key string, revision int64, r *etcd.WriteResult) error {
				return is(c.CompareAndSwapRevision(ctx, key, revision, []byte("new"), etcd.WithResult(r), etcd.WithPrevKV()))
			},
			"PutIfChanged": func(ctx context.Context, key string, _ int64, r *etcd.WriteResult) error {
				return is(c.PutIfChanged(ctx, key, []byte("new"), etcd.WithResult(r), etcd.WithPrevKV()))
			},
			"Put with guard": func(ctx context.Context, key string, _ int64, r *etcd.WriteResult) error {
				return c.Put(ctx, key, []byte("new"), etcd.WithGuard(), etcd.WithResult(r), etcd.WithPrevKV())
			},
			"Update": func(ctx context.Context, key string, _ int64, r *etcd.WriteResult) error {
				calls := 0
				return c.Update(ctx, key, func([]byte) ([]byte, error) {
					if calls++; calls > 1 {
						return nil, errors.New("called for its own result")
					}
					return []byte("new"), nil
				}, etcd.WithResult(r), etcd.WithPrevKV())
			},
			"Txn": func(ctx context.Context, key string, revision int64, r *etcd.WriteResult) error {
				res, err := c.Txn().If(etcd.ModRevision(key).Equal(revision)).
					Then(etcd.OpPut(key, []byte("new"), etcd.WithPrevKV()), etcd.OpDelete(key+"-none")).
					Else(etcd.OpGet(key)).Commit(ctx)
				if err == nil {
					require.Len(t, res.Results, 2)
					*r = etcd.WriteResult{Revision: res.Revision, PrevKV: res.Results[0].PrevKV}
				}
				return is(res != nil && res.Succeeded, err)
			},
		} {
			for _, interfered := range []bool{false, true} {
				msg := fmt.Sprint(m.name, " ", name, " ", interfered)
				key := prefix(t) + msg
				require.NoError(t, c.Put(t.Context(), key, []byte("older")))
				require.NoError(t, c.Put(t.Context(), key, []byte("old")))
				before, err := c.GetKV(t.Context(), key)
				require.NoError(t, err)
				var change func()
				if interfered { // others change the key before the second execution
					stored := key
					if m.name == "all" {
						stored = "space/" + key
					}
					change = func() {
						for i := range 3 {
							assert.NoError(t, second(other.Raw().Put(t.Context(), stored+"-beside", "")))
							assert.NoError(t, second(other.Raw().Put(t.Context(), stored, strconv.Itoa(i))))
						}
					}
					proxy.between.Store(&change)
				}
				var r etcd.WriteResult
				proxy.through(t, func() error { return write(t.Context(), key, before.ModRevision, &r) })
				proxy.between.Store(nil)
				require.Equal(t, before.ModRevision+1, r.Revision, msg)
				require.NotNil(t, r.PrevKV, msg)
				require.Equal(t, "old", string(r.PrevKV.Value), msg)
			}
		}
	}
}

func TestReplayedCreationsAreReportedAsApplied(t *testing.T) {
	t.Parallel()
	srv, proxy := replayingServer(t)
	for _, m := range encryptedModes {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		key := prefix(t) + m.name
		proxy.through(t, func() error {
			created, err := c.PutIfNotExists(t.Context(), key, []byte("new"))
			assert.True(t, created)
			return err
		})
		created, err := c.PutIfNotExists(t.Context(), key, []byte("new"))
		require.NoError(t, err)
		require.False(t, created, "the same value by another call")
		proxy.through(t, func() error { return c.Put(t.Context(), key+"-guarded", nil, etcd.WithGuard()) })
		proxy.through(t, func() error { return c.CopyKey(t.Context(), key, key+"-copy") })
		proxy.through(t, func() error { return c.MoveKey(t.Context(), key, key+"-moved") })
		for _, of := range []string{"-guarded", "-copy", "-moved"} {
			kv, err := c.GetKV(t.Context(), key+of)
			require.NoError(t, err)
			require.Equal(t, int64(1), kv.Version, of)
		}
		var file bytes.Buffer
		_, err = c.Export(t.Context(), &file, prefix(t)+m.name, etcd.WithDecryptedValues())
		require.NoError(t, err)
		proxy.through(t, func() error {
			report, err := c.Import(t.Context(), bytes.NewReader(file.Bytes()), etcd.WithOnlyMissing(), etcd.WithNewPrefix(key+"-imported"))
			assert.Equal(t, int64(3), report.Written)
			assert.Zero(t, report.Existing)
			return err
		})
	}
}

func TestReplayedIncrementsCountOnce(t *testing.T) {
	t.Parallel()
	srv, proxy := replayingServer(t)
	for _, m := range encryptedModes {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		proxy.on.Store(true)
		const workers, each = 4, 15
		var runs atomic.Int64
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for range each {
					assert.NoError(t, c.Transact(t.Context(), func(tx *etcd.Tx) error {
						runs.Add(1)
						for _, name := range []string{"sum", strconv.Itoa(w)} {
							old, err := tx.Get(prefix(t) + m.name + name)
							n, _ := strconv.Atoi(string(old))
							if err != nil && !errors.Is(err, etcd.ErrKeyNotFound) {
								return err
							}
							tx.Put(prefix(t)+m.name+name, []byte(strconv.Itoa(n+1)))
						}
						return nil
					}))
					assert.NoError(t, c.Update(t.Context(), prefix(t)+m.name+"updated", increment))
				}
			})
		}
		wg.Wait()
		proxy.on.Store(false)
		for name, want := range map[string]int{"sum": workers * each, "updated": workers * each, "0": each, "3": each} {
			v, err := c.Get(t.Context(), prefix(t)+m.name+name)
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(want), string(v), "%s %s", m.name, name)
		}
		t.Logf("%d runs of %d", runs.Load(), workers*each)
	}
}

// What a transaction has read in its first execution nobody knows any more.
func TestReplayedTransactionThatReadsIsUnknown(t *testing.T) {
	t.Parallel()
	srv, proxy := replayingServer(t)
	c := client(t, config(srv).WithEncryption(testKey).WithTimeout(busyTimeout))
	key := prefix(t)
	proxy.on.Store(true)
	_, err := c.Txn().If(etcd.Missing(key)).Then(etcd.OpPut(key, nil), etcd.OpGet(key)).Commit(t.Context())
	proxy.on.Store(false)
	require.ErrorIs(t, err, etcd.ErrUnavailable)
	requireOutcome(t, c, err, etcd.OutcomeApplied, "it was")
}

// Without a replay, conflicts stay what they are, whatever was written by whom.
func TestConflictsWithoutReplaysStayConflicts(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, key := t.Context(), prefix(t)
		require.NoError(t, c.Put(ctx, key, []byte("same")))
		_, revision, err := c.GetWithRevision(ctx, key)
		require.NoError(t, err)
		for range 3 {
			require.NoError(t, c.Put(ctx, key, []byte("same")))
		}
		require.Equal(t, []string{"Txn"}, o.during(func() {
			swapped, err := c.CompareAndSwapRevision(ctx, key, revision, []byte("same"))
			assert.NoError(t, err)
			assert.False(t, swapped)
		}))
		require.Equal(t, []string{"Txn"}, o.during(func() {
			created, err := c.PutIfNotExists(ctx, key, []byte("same"))
			assert.NoError(t, err)
			assert.False(t, created)
		}))
	})
}
