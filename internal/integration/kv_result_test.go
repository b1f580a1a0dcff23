package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/blueprint-go/etcd"
)

// writesWithResult are all kinds of writes that change something.
var writesWithResult = map[string]writing{
	"Put": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return c.Put(ctx, p, nil, r)
	},
	"Put with guard": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return c.Put(ctx, p, nil, etcd.WithGuard(), r)
	},
	"Put with guard of a new key": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return c.Put(ctx, p+"new", nil, etcd.WithGuard(), r)
	},
	"PutWithLease": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		id, err := c.Grant(ctx, time.Hour)
		return errors.Join(err, c.PutWithLease(ctx, p, nil, id, r))
	},
	"PutWithTTL": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return second(c.PutWithTTL(ctx, p, nil, time.Hour, r))
	},
	"PutIfNotExists": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return done(c.PutIfNotExists(ctx, p+"new", nil, r))
	},
	"PutIfChanged": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return done(c.PutIfChanged(ctx, p, []byte("2"), r))
	},
	"Delete": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return second(c.Delete(ctx, p, r))
	},
	"DeletePrefix": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return second(c.DeletePrefix(ctx, p, r))
	},
	"DeletePrefix in chunks": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return second(c.DeletePrefix(ctx, p, etcd.InChunks(etcd.WithChunkKeys(1)), r))
	},
	"CompareAndSwap": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return done(c.CompareAndSwap(ctx, p, []byte("1"), nil, r))
	},
	"CompareAndSwapRevision": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return done(c.CompareAndSwapRevision(ctx, p+"new", 0, nil, r))
	},
	"CompareAndDelete": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return done(c.CompareAndDelete(ctx, p, []byte("1"), r))
	},
	"CompareAndDeleteRevision": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		_, revision, err := c.GetWithRevision(ctx, p)
		return errors.Join(err, done(c.CompareAndDeleteRevision(ctx, p, revision, r)))
	},
	"Update": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return c.Update(ctx, p, increment, r)
	},
	"MoveKey": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return c.MoveKey(ctx, p, p+"new", r)
	},
	"CopyKey": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return c.CopyKey(ctx, p, p+"new", r)
	},
	"Transact": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return c.Transact(ctx, func(tx *etcd.Tx) error { return incrementIn(tx, p) }, r)
	},
	"BulkPut": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return c.BulkPut(ctx, map[string][]byte{p: nil, p + "2": nil}, r)
	},
	"BulkPut in chunks": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return c.BulkPut(ctx, map[string][]byte{p: nil, p + "2": nil}, etcd.InChunks(etcd.WithChunkKeys(1)), r)
	},
	"BulkDelete": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return second(c.BulkDelete(ctx, []string{p}, r))
	},
	"BulkLoad": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return second(c.BulkLoad(ctx, maps.All(map[string][]byte{p: nil, p + "2": nil}), etcd.WithChunkKeys(1), r))
	},
	"Import": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		var file bytes.Buffer
		_, err := c.Export(ctx, &file, p, etcd.WithDecryptedValues())
		return errors.Join(err, second(c.Import(ctx, &file, r)))
	},
	"Typed Put": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return etcd.NewTyped[int](c, p).Put(ctx, "", 2, r)
	},
	"Typed Create": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return done(etcd.NewTyped[int](c, p).Create(ctx, "new", 2, r))
	},
	"Typed Update": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return etcd.NewTyped[int](c, p).Update(ctx, "", func(n int, _ bool) (int, bool, error) { return n + 1, true, nil }, r)
	},
	"Typed CompareAndSwap": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return done(etcd.NewTyped[int](c, p).CompareAndSwap(ctx, etcd.TypedValue[int]{Name: "new"}, 2, r))
	},
	"Typed Delete": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
		return done(etcd.NewTyped[int](c, p).Delete(ctx, "", r))
	},
}

func TestEveryWriteTellsItsRevision(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx := within(t, busyTimeout)
		for name, write := range writesWithResult {
			p := prefix(t) + name
			require.NoError(t, c.Put(ctx, p, []byte("1")))
			before := revisionOf(t, c)
			stale := etcd.WriteResult{Revision: 1, PrevKV: &etcd.KeyValue{}, Err: etcd.ErrCorrupt}
			require.NoError(t, write(ctx, c, p, etcd.WithResult(&stale)), name)
			require.Equal(t, etcd.WriteResult{Revision: revisionOf(t, c)}, stale, name)
			require.Greater(t, stale.Revision, before, name)
		}
	})
}

func TestResultCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	for name, requests := range map[string]int{
		"Put": 1, "Put with guard": 2, "PutWithTTL": 2, "PutIfNotExists": 1, "PutIfChanged": 2, "Delete": 1,
		"DeletePrefix": 1, "DeletePrefix in chunks": 2, "CompareAndSwap": 1, "CompareAndDelete": 1, "Update": 2,
		"MoveKey": 2, "Transact": 2, "BulkPut": 1, "BulkDelete": 1, "BulkLoad": 2, "Typed Put": 1, "Typed Delete": 1,
	} {
		key := prefix(t) + name
		require.NoError(t, c.Put(t.Context(), key, []byte("1")))
		seen := o.during(func() {
			assert.NoError(t, writesWithResult[name](t.Context(), c, key, etcd.WithResult(&etcd.WriteResult{})), name)
		})
		require.Len(t, seen, requests, "%s: %s", name, seen)
	}
}

func TestWriteThatChangedNothingReportsTheRevision(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx := within(t, busyTimeout)
		for name, write := range map[string]writing{
			"PutIfNotExists": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
				return second(c.PutIfNotExists(ctx, p, nil, r))
			},
			"PutIfChanged": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
				return second(c.PutIfChanged(ctx, p, []byte("1"), r))
			},
			"Delete": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
				return second(c.Delete(ctx, p+"none", r))
			},
			"DeletePrefix": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
				return second(c.DeletePrefix(ctx, p+"none", r))
			},
			"DeletePrefix in chunks": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
				return second(c.DeletePrefix(ctx, p+"none", etcd.InChunks(), r))
			},
			"BulkDelete": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
				return second(c.BulkDelete(ctx, []string{p + "none"}, r))
			},
			"CompareAndSwap": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
				return second(c.CompareAndSwap(ctx, p, []byte("2"), nil, r, etcd.WithPrevKV()))
			},
			"CompareAndDelete": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
				return second(c.CompareAndDelete(ctx, p, []byte("2"), r, etcd.WithPrevKV()))
			},
			"Update": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
				return c.Update(ctx, p+"none", func([]byte) ([]byte, error) { return nil, nil }, r, etcd.WithPrevKV())
			},
			"Transact": func(ctx context.Context, c *etcd.Client, p string, r etcd.WriteOption) error {
				return c.Transact(ctx, func(tx *etcd.Tx) error { return second(tx.Get(p)) }, r)
			},
		} {
			p := prefix(t) + name
			require.NoError(t, c.BulkPut(ctx, map[string][]byte{p: []byte("1"), "elsewhere": nil}))
			now := revisionOf(t, c)
			var r etcd.WriteResult
			require.NoError(t, write(ctx, c, p, etcd.WithResult(&r)), name)
			require.Equal(t, etcd.WriteResult{Revision: now}, r, name)
			require.Equal(t, now, revisionOf(t, c), name)
		}
		for name, write := range map[string]writing{
			"BulkPut": func(ctx context.Context, c *etcd.Client, _ string, r etcd.WriteOption) error {
				return c.BulkPut(ctx, nil, r)
			},
			"Transact": func(ctx context.Context, c *etcd.Client, _ string, r etcd.WriteOption) error {
				return c.Transact(ctx, func(*etcd.Tx) error { return nil }, r)
			},
		} {
			var r etcd.WriteResult
			require.NoError(t, write(ctx, c, "", etcd.WithResult(&r)))
			require.Zero(t, r, "%s asks nothing of the server", name)
		}
	})
}

func TestFailedWriteLeavesAnEmptyResult(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var none context.Context
	for name, write := range writesWithResult {
		require.NoError(t, c.Put(t.Context(), prefix(t)+name, []byte("1")))
		for what, ctx := range map[string]context.Context{"ended": ended, "nil": none} {
			r := etcd.WriteResult{Revision: 1, PrevKV: &etcd.KeyValue{}, Err: etcd.ErrCorrupt}
			require.Error(t, write(ctx, c, prefix(t)+name, etcd.WithResult(&r)), name)
			require.Zero(t, r, "%s with a context that is %s", name, what)
		}
		// The write was applied, or not: nobody knows.
		lost := etcd.WriteResult{Revision: 1, PrevKV: &etcd.KeyValue{}, Err: etcd.ErrCorrupt}
		err := write(faults.follow(t.Context(), losing(false)), c, prefix(t)+name, etcd.WithResult(&lost))
		require.True(t, etcd.MaybeApplied(err), name)
		require.Zero(t, lost, "%s with a lost answer", name)
	}
	r := etcd.WriteResult{Revision: 1}
	require.ErrorIs(t, c.MoveKey(t.Context(), "none", "other", etcd.WithResult(&r)), etcd.ErrKeyNotFound)
	require.Zero(t, r)
	r.Revision = 1
	require.ErrorIs(t, c.Put(t.Context(), "", nil, nil, etcd.WithResult(&r)), etcd.ErrInvalidArgument)
	require.Zero(t, r)
}

// writesWithPrevKV are the writes that tell what they replace.
var writesWithPrevKV = map[string]func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error{
	"Put": func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error {
		return c.Put(ctx, key, nil, r, etcd.WithPrevKV())
	},
	"Put with guard": func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error {
		return c.Put(ctx, key, nil, r, etcd.WithPrevKV(), etcd.WithGuard())
	},
	"PutWithTTL": func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error {
		return second(c.PutWithTTL(ctx, key, nil, time.Hour, r, etcd.WithPrevKV()))
	},
	"Delete": func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error {
		return second(c.Delete(ctx, key, r, etcd.WithPrevKV()))
	},
	"CompareAndSwapRevision": func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error {
		kv, _ := c.GetKV(ctx, key)
		return done(c.CompareAndSwapRevision(ctx, key, kv.ModRevision, nil, r, etcd.WithPrevKV()))
	},
	"CompareAndDeleteRevision": func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error {
		kv, _ := c.GetKV(ctx, key)
		return done(c.CompareAndDeleteRevision(ctx, key, kv.ModRevision, r, etcd.WithPrevKV()))
	},
}

// writesOfReadValues are those which can't be made of a value that can't be decoded.
var writesOfReadValues = map[string]func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error{
	"CompareAndSwap": func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error {
		return done(c.CompareAndSwap(ctx, key, []byte("1"), nil, r, etcd.WithPrevKV()))
	},
	"CompareAndDelete": func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error {
		return done(c.CompareAndDelete(ctx, key, []byte("1"), r, etcd.WithPrevKV()))
	},
	"PutIfChanged": func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error {
		return done(c.PutIfChanged(ctx, key, []byte("2"), r, etcd.WithPrevKV()))
	},
	"Update": func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error {
		return c.Update(ctx, key, increment, r, etcd.WithPrevKV())
	},
	"Update that deletes": func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error {
		return c.Update(ctx, key, func([]byte) ([]byte, error) { return nil, nil }, r, etcd.WithPrevKV())
	},
	"Typed Update": func(ctx context.Context, c *etcd.Client, key string, r etcd.WriteOption) error {
		return etcd.NewTyped[int](c, "").Update(ctx, key, func(n int, _ bool) (int, bool, error) { return n, true, nil }, r, etcd.WithPrevKV())
	},
}

func TestWriteTellsWhatItReplaced(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx := within(t, busyTimeout)
		all := maps.Clone(writesWithPrevKV)
		maps.Copy(all, writesOfReadValues)
		for name, write := range all {
			key := prefix(t) + name
			require.NoError(t, c.Put(ctx, key, []byte("0")))
			require.NoError(t, c.Put(ctx, key, []byte("1")))
			before, err := c.GetKV(ctx, key)
			require.NoError(t, err)
			var r etcd.WriteResult
			require.NoError(t, write(ctx, c, key, etcd.WithResult(&r)), name)
			require.NoError(t, r.Err)
			require.Equal(t, &before, r.PrevKV, name)
			require.Equal(t, revisionOf(t, c), r.Revision, name)
		}
		// What replaces nothing says so.
		for _, name := range []string{"Put", "Put with guard", "PutWithTTL", "Delete"} {
			var r etcd.WriteResult
			require.NoError(t, writesWithPrevKV[name](ctx, c, prefix(t)+"new "+name, etcd.WithResult(&r)))
			require.Nil(t, r.PrevKV, name)
			require.NotZero(t, r.Revision, name)
		}
	})
}

func TestUndecodablePredecessorIsNoErrorOfTheWrite(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)).WithEncryption(testKey))
	ctx := within(t, busyTimeout)
	for name, write := range writesWithPrevKV {
		key := prefix(t) + name
		plant(t, c, key, planted)
		var r etcd.WriteResult
		require.NoError(t, write(ctx, c, key, etcd.WithResult(&r)), name)
		requireUndecodable(t, r.Err, key, etcd.ErrNotEncrypted, name)
		require.Equal(t, key, r.PrevKV.Key, name)
		require.Nil(t, r.PrevKV.Value, name)
		require.NotZero(t, r.PrevKV.ModRevision, name)
		require.Equal(t, revisionOf(t, c), r.Revision, name)
	}
}

func TestTransactionTellsWhatItsOperationsReplaced(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := within(t, busyTimeout), prefix(t)
		for _, key := range []string{"a", "b", "c"} {
			require.NoError(t, c.Put(ctx, p+key, []byte("value of "+key)))
		}
		inner := c.Txn().If(etcd.Value(p + "c").Equal([]byte("value of c"))).Then(etcd.OpDelete(p+"c", etcd.WithPrevKV()))
		res, err := c.Txn().Then(etcd.OpPut(p+"a", nil, etcd.WithPrevKV()), etcd.OpPut(p+"b", nil), etcd.OpTxn(inner),
			etcd.OpDelete(p+"none", etcd.WithPrevKV()), etcd.OpDeletePrefix(p+"none")).Commit(ctx)
		require.NoError(t, err)
		require.Equal(t, "value of a", string(res.Results[0].PrevKV.Value))
		require.Equal(t, p+"a", res.Results[0].PrevKV.Key)
		require.Nil(t, res.Results[1].PrevKV)
		require.Equal(t, "value of c", string(res.Results[2].Txn.Results[0].PrevKV.Value))
		require.Equal(t, int64(1), res.Results[2].Txn.Results[0].Deleted)
		require.Nil(t, res.Results[3].PrevKV)
		require.NoError(t, res.Err())
	})
}

func TestResultThatCannotBeToldIsRefused(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	ctx := t.Context()
	var r etcd.WriteResult
	for name, write := range writesWithResult {
		if slices.Contains([]string{"PutWithLease", "CompareAndDeleteRevision", "Import"}, name) {
			continue // these ask something before
		}
		requireRefused(t, o, name+" with a nil result", etcd.ErrInvalidArgument, func() error {
			return write(ctx, c, "k", etcd.WithResult(nil))
		})
	}
	for name, call := range map[string]func() error{
		"Put":          func() error { return c.Put(ctx, "k", nil, etcd.WithPrevKV()) },
		"Guarded put":  func() error { return c.Put(ctx, "k", nil, etcd.WithPrevKV(), etcd.WithGuard()) },
		"PutWithTTL":   func() error { return second(c.PutWithTTL(ctx, "k", nil, time.Hour, etcd.WithPrevKV())) },
		"Delete":       func() error { return second(c.Delete(ctx, "k", etcd.WithPrevKV())) },
		"Swap":         func() error { return second(c.CompareAndSwap(ctx, "k", nil, nil, etcd.WithPrevKV())) },
		"PutIfChanged": func() error { return second(c.PutIfChanged(ctx, "k", nil, etcd.WithPrevKV())) },
		"Update":       func() error { return c.Update(ctx, "k", increment, etcd.WithPrevKV()) },
		"OpPut":        func() error { return second(c.Txn().Then(etcd.OpPut("k", nil, etcd.WithResult(&r))).Commit(ctx)) },
		"OpDelete":     func() error { return second(c.Txn().Then(etcd.OpDelete("k", etcd.WithResult(&r))).Commit(ctx)) },
		"OpDeletePrefix": func() error {
			return second(c.Txn().Then(etcd.OpDeletePrefix("k", etcd.WithResult(&r))).Commit(ctx))
		},
		"OpDeleteRange": func() error { return second(c.Txn().Then(etcd.OpDeleteRange("k", "l", etcd.InChunks())).Commit(ctx)) },
		"Tx.Put": func() error {
			return c.Transact(ctx, func(tx *etcd.Tx) error { tx.Put("k", nil, etcd.WithResult(&r)); return nil })
		},
		"Tx.Put with PrevKV": func() error {
			return c.Transact(ctx, func(tx *etcd.Tx) error { tx.Put("k", nil, etcd.WithPrevKV()); return nil })
		},
		"two leases": func() error { return second(c.PutWithTTL(ctx, "k", nil, time.Hour, etcd.WithLease(1))) },
	} {
		requireRefused(t, o, name, etcd.ErrInvalidArgument, call)
	}
	require.Empty(t, versions(t, c))
}

// The answer of the put is lost, the put is not.
func TestGuardedPutReportsItsRevisionDespiteLostAnswers(t *testing.T) {
	t.Parallel()
	srv, faults := faultyServer(t)
	for _, m := range modes {
		c := client(t, m.set(config(srv)).WithTimeout(busyTimeout))
		for _, existed := range []bool{true, false} {
			key := fmt.Sprint(prefix(t), m.name, existed)
			var before *etcd.KeyValue
			if existed {
				require.NoError(t, c.Put(t.Context(), key, []byte("old")))
				kv, err := c.GetKV(t.Context(), key)
				require.NoError(t, err)
				before = &kv
			}
			s := &script{answer: status.Error(codes.Unavailable, "injected"), writesOnly: true, times: 1}
			var r etcd.WriteResult
			err := c.Put(faults.follow(t.Context(), s), key, []byte("new"), etcd.WithGuard(), etcd.WithResult(&r), etcd.WithPrevKV())
			if !existed && !c.IsEncrypted() { // then nothing tells the creation from another's
				require.True(t, etcd.MaybeApplied(err))
				require.Zero(t, r)
				continue
			}
			require.NoError(t, err)
			kv, err := c.GetKV(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, etcd.WriteResult{Revision: kv.ModRevision, PrevKV: before}, r)
		}
	}
}

func TestFailedChunksReportTheNewestCertainRevision(t *testing.T) {
	t.Parallel()
	srv, chunks := serverOfChunks(t)
	c := client(t, config(srv).WithTimeout(busyTimeout))
	chunks.interfere(func(_ context.Context, keys []string) error {
		if slices.Contains(keys, "k3") {
			return status.Error(codes.PermissionDenied, "injected")
		}
		return nil
	}, nil)
	kvs := map[string][]byte{"k1": nil, "k2": nil, "k3": nil, "k4": nil}
	one := []etcd.ChunkOption{etcd.WithChunkKeys(1), etcd.WithParallelism(1)}
	var r etcd.WriteResult
	require.Error(t, c.BulkPut(t.Context(), kvs, etcd.InChunks(one...), etcd.WithResult(&r)))
	require.Equal(t, etcd.WriteResult{Revision: revisionOf(t, c)}, r)
	require.Len(t, versions(t, c), 2)

	report, err := c.BulkLoad(t.Context(), func(yield func(string, []byte) bool) {
		_ = yield("k1", nil) && yield("k2", nil) && yield("k3", nil)
	}, one[0], one[1], etcd.WithResult(&r))
	require.Error(t, err)
	require.Equal(t, etcd.WriteResult{Revision: revisionOf(t, c)}, r)
	require.Equal(t, report.Revision, r.Revision)
}
