package integration

import (
	"context"
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

func TestNestedTransactionsTellWhatEachOfThemDid(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "a": []byte("1"), p + "b": []byte("2")}))
		txn := c.Txn().
			If(etcd.Exists(p+"a")).
			Then(
				etcd.OpPut(p+"outer", []byte("then")),
				etcd.OpTxn(c.Txn().If(etcd.Missing(p+"a")).
					Then(etcd.OpPut(p+"inner", []byte("then"))).
					Else(etcd.OpGet(p+"b"), etcd.OpTxn(c.Txn().Then(etcd.OpGet(p+"a"), etcd.OpDelete(p+"a"))))),
				etcd.OpTxn(c.Txn()),
				etcd.OpGet(p+"outer"),
			)
		var res *etcd.TxnResult
		require.Equal(t, []string{"Txn"}, o.during(func() {
			var err error
			res, err = txn.Commit(ctx)
			require.NoError(t, err)
		}))
		require.True(t, res.Succeeded)
		require.Len(t, res.Results, 4)
		require.Nil(t, res.Results[0].Txn)
		inner := res.Results[1].Txn
		require.False(t, inner.Succeeded)
		require.Empty(t, res.Results[1].Key)
		require.Equal(t, int64(1), inner.Results[0].Count)
		innermost := inner.Results[1].Txn
		require.True(t, innermost.Succeeded)
		require.Equal(t, etcd.OpResult{Key: p + "a", Deleted: 1}, innermost.Results[1])
		require.Equal(t, &etcd.TxnResult{Succeeded: true, Revision: res.Revision, Results: []etcd.OpResult{}}, res.Results[2].Txn)
		require.Equal(t, res.Revision, inner.Revision)
		require.Equal(t, res.Revision, innermost.Revision)
		for key, want := range map[string]string{"a": "1", "b": "2", "outer": "then"} {
			kv, ok := res.KV(p + key)
			require.True(t, ok, key)
			require.Equal(t, want, string(kv.Value))
		}
		_, ok := res.KV(p + "inner")
		require.False(t, ok)
		require.NoError(t, res.Err())

		kvs, err := c.GetPrefix(ctx, p, 0)
		require.NoError(t, err)
		require.Len(t, kvs, 2)
		require.Equal(t, []string{p + "b", p + "outer"}, []string{kvs[0].Key, kvs[1].Key})
		require.Equal(t, res.Revision, kvs[1].ModRevision)
	})
}

func TestConditionsOfNestedTransactionsSeeTheStateBefore(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "changed": []byte("old"), p + "deleted": nil}))
		res, err := c.Txn().Then(
			etcd.OpPut(p+"changed", []byte("new")),
			etcd.OpPut(p+"created", nil),
			etcd.OpDelete(p+"deleted"),
			etcd.OpTxn(c.Txn().
				If(
					etcd.Value(p+"changed").Equal([]byte("old")),
					etcd.Version(p+"changed").Equal(1),
					etcd.Missing(p+"created"),
					etcd.Exists(p+"deleted"),
					etcd.Value(p+"deleted").Equal(nil),
				).
				Then(etcd.OpGet(p+"changed"), etcd.OpGet(p+"created"), etcd.OpGet(p+"deleted"))),
		).Commit(ctx)
		require.NoError(t, err)
		inner := res.Results[3].Txn
		require.True(t, inner.Succeeded)
		require.Equal(t, "new", string(inner.Results[0].KVs[0].Value), "operations do see what is before them")
		require.Equal(t, int64(1), inner.Results[1].Count)
		require.Equal(t, int64(0), inner.Results[2].Count)
	})
}

// One round trip where the server can compare, and one more where it can't.
func TestNestedValueConditionsTakeOneMoreRoundTrip(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "a": []byte("1"), p + "b": []byte("2")}))
		for i, want := range []struct{ outer, inner bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
			nested := c.Txn().
				If(etcd.Value(p + "b").Equal([]byte(map[bool]string{true: "2", false: "3"}[want.inner]))).
				Then(etcd.OpPut(fmt.Sprint(p, "out", i), []byte("inner then"))).
				Else(etcd.OpPut(fmt.Sprint(p, "out", i), []byte("inner else")))
			for name, txn := range map[string]*etcd.Txn{
				"alone":         c.Txn(),
				"beside others": c.Txn().If(etcd.Missing(p + "none")),
			} {
				txn.If(etcd.Value(p+"a").NotEqual([]byte(map[bool]string{true: "2", false: "1"}[want.outer]))).
					Then(etcd.OpTxn(nested)).
					Else(etcd.OpGet(p+"a"), etcd.OpTxn(nested))
				trips := o.during(func() {
					res, err := txn.Commit(ctx)
					require.NoError(t, err)
					require.Equal(t, want.outer, res.Succeeded, name)
					inner := res.Results[len(res.Results)-1].Txn
					require.Equal(t, want.inner, inner.Succeeded, name)
					require.Len(t, inner.Results, 1)
				})
				if c.IsEncrypted() {
					require.Equal(t, []string{"Txn", "Txn"}, trips)
				} else {
					require.LessOrEqual(t, len(trips), 2)
				}
				got, err := c.Get(ctx, fmt.Sprint(p, "out", i))
				require.NoError(t, err)
				require.Equal(t, map[bool]string{true: "inner then", false: "inner else"}[want.inner], string(got))
			}
		}
	})
	srv, o := observedServer(t)
	c := client(t, config(srv))
	require.Equal(t, []string{"Txn"}, o.during(func() {
		_, err := c.Txn().Then(etcd.OpTxn(c.Txn().If(etcd.Value("a").Equal(nil)).Then(etcd.OpDelete("b")))).Commit(t.Context())
		require.NoError(t, err)
	}))
}

// nestedDepth returns transactions nested in each other, the last of them with op.
func nestedDepth(c *etcd.Client, depth int, cond []etcd.Condition, op etcd.Op) *etcd.Txn {
	for range depth - 1 {
		op = etcd.OpTxn(c.Txn().If(cond...).Then(op))
	}
	return c.Txn().Then(op)
}

func TestTransactionsNestToTheLimitOfTheServer(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.Put(ctx, p+"key", []byte("1")))
		const limit = etcd.DefaultMaxTxnOps
		wide := func(n, m int) *etcd.Txn {
			txn := c.Txn()
			for i := range n {
				inner := c.Txn().If(etcd.Value(p + "key").Equal([]byte("1")))
				for j := range m {
					inner.Then(etcd.OpPut(fmt.Sprint(p, "wide/", i, "/", j), nil)).Else(etcd.OpDelete(p + "key"))
				}
				txn.Then(etcd.OpTxn(inner))
			}
			return txn
		}
		hold := []etcd.Condition{etcd.Value(p + "key").Equal([]byte("1")), etcd.Missing(p + "none")}
		for name, txn := range map[string]*etcd.Txn{
			"deep":                 nestedDepth(c, limit, nil, etcd.OpPut(p+"deep", nil)),
			"deep with conditions": nestedDepth(c, limit/2, hold, etcd.OpPut(p+"conditions", nil)),
			"wide":                 wide(10, limit-10),
			"most":                 wide(64, 64),
		} {
			res, err := txn.Commit(ctx)
			require.NoError(t, err, name)
			require.True(t, res.Succeeded)
		}
		count, err := c.Count(ctx, p)
		require.NoError(t, err)
		require.Equal(t, int64(1+1+1+64*64+10*(limit-10)-10*64), count)

		for name, txn := range map[string]*etcd.Txn{
			"deep":         nestedDepth(c, limit+1, nil, etcd.OpPut(p+"deep", nil)),
			"wide":         wide(10, limit-9),
			"most":         wide(64, 65),
			"in else":      c.Txn().Else(etcd.OpTxn(wide(10, limit-10))),
			"conditions":   c.Txn().Then(etcd.OpTxn(c.Txn().If(manyConditions(p, limit)...))),
			"of no branch": c.Txn().If(manyConditions(p, 65)...).Then(etcd.OpTxn(c.Txn().If(manyConditions(p, 64)...))),
		} {
			requireRefused(t, o, name, etcd.ErrTooManyOps, func() error { return second(txn.Commit(ctx)) })
		}
		_, err = c.Txn().If(manyConditions(p, 64)...).Then(etcd.OpTxn(c.Txn().If(manyConditions(p, 64)...))).Commit(ctx)
		require.NoError(t, err)
	})
}

func manyConditions(p string, n int) []etcd.Condition {
	out := make([]etcd.Condition, n)
	for i := range out {
		out[i] = etcd.Missing(fmt.Sprint(p, "missing/", i))
	}
	return out
}

// What the client refuses before sending is what the server would refuse, and
// nothing that it takes but for the two gaps of its check.
func TestOverlappingOperationsAreRefusedOverAllLevels(t *testing.T) {
	t.Parallel()
	put, del := func(key string) etcd.Op { return etcd.OpPut(key, nil) }, etcd.OpDelete
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		nest := func(ops ...etcd.Op) etcd.Op { return etcd.OpTxn(c.Txn().Then(ops...)) }
		nestElse := func(ops ...etcd.Op) etcd.Op { return etcd.OpTxn(c.Txn().Else(ops...)) }
		both := func(then, els etcd.Op) etcd.Op { return etcd.OpTxn(c.Txn().Then(then).Else(els)) }
		for name, ops := range map[string][]etcd.Op{
			"outer and inner put":         {put("k"), nest(put("k"))},
			"inner and outer put":         {nest(put("k")), put("k")},
			"outer and inner Else":        {put("k"), nestElse(put("k"))},
			"two inner puts":              {nest(put("k")), nest(put("k"))},
			"inner Then and Else":         {nest(put("k")), nestElse(put("k"))},
			"two levels down":             {put("k"), nest(nest(put("k")))},
			"cousins":                     {nest(nest(put("k"))), nestElse(nestElse(put("k")))},
			"outer put, inner delete":     {put("k"), nest(del("k"))},
			"outer delete, inner put":     {del("k"), nest(put("k"))},
			"inner delete, outer put":     {nest(del("k")), put("k")},
			"inner put, outer delete":     {nest(put("k")), del("k")},
			"inner delete, then put":      {nest(del("k")), nest(put("k"))},
			"inner put, then delete":      {nest(put("k")), nest(del("k"))},
			"prefix deleted inside":       {put("k/1"), nest(etcd.OpDeletePrefix("k/"))},
			"range deleted inside":        {put("k"), nestElse(etcd.OpDeleteRange("j", "l"))},
			"range deleted outside":       {etcd.OpDeleteRange("j", "l"), nestElse(put("k"))},
			"open range deleted outside":  {etcd.OpDeleteRange("j", ""), nest(put("k"))},
			"both branches with outer":    {put("k"), both(put("j"), put("k"))},
			"both branches with the next": {both(put("j"), put("k")), nest(put("k"))},
		} {
			for branch, txn := range map[string]*etcd.Txn{
				"then": c.Txn().Then(ops...), "else": c.Txn().Else(ops...), "deeper": c.Txn().Then(etcd.OpTxn(c.Txn().Else(ops...))),
			} {
				requireRefused(t, o, name+", "+branch, etcd.ErrDuplicateKey, func() error { return second(txn.Commit(t.Context())) })
			}
		}
		for name, txn := range map[string]*etcd.Txn{
			"branches of one":      c.Txn().Then(both(put("k"), put("k"))),
			"put or delete":        c.Txn().Then(both(put("k"), del("k")), both(put("j"), etcd.OpDeletePrefix("j"))),
			"branches of the root": c.Txn().Then(nest(put("k"))).Else(nest(del("k")), del("k")),
			"deleted twice":        c.Txn().Then(del("k"), nest(del("k"), etcd.OpDeletePrefix("k"))),
			"read and put":         c.Txn().Then(etcd.OpGet("k"), nest(put("k")), etcd.OpGetPrefix("k")),
			"beside a range":       c.Txn().Then(etcd.OpDeleteRange("j", "k"), nest(put("k"), put("i"))),
			"nested twice":         c.Txn().Then(nest(etcd.OpGet("k")), nest(etcd.OpGet("k"))),
		} {
			_, err := txn.Commit(t.Context())
			require.NoError(t, err, name)
		}
	})
}

func TestTransactionsThatCantBeNestedAreRefused(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx := t.Context()
		var none *etcd.Txn
		self, one, two := c.Txn(), c.Txn(), c.Txn()
		self.Then(etcd.OpTxn(self))
		one.Else(etcd.OpGet("k"), etcd.OpTxn(two))
		two.Then(etcd.OpTxn(one))
		other := client(t, etcd.DefaultConfig().WithEndpoints(c.Endpoints()...))
		for name, txn := range map[string]*etcd.Txn{
			"nil":                 none,
			"zero":                {},
			"nested nil":          c.Txn().Then(etcd.OpTxn(none)),
			"nested zero":         c.Txn().Else(etcd.OpTxn(&etcd.Txn{})),
			"of another client":   c.Txn().Then(etcd.OpTxn(other.Txn())),
			"in itself":           self,
			"in itself by way":    one,
			"zero operation":      c.Txn().Then(etcd.OpTxn(c.Txn().Else(etcd.Op{}))),
			"zero condition":      c.Txn().Then(etcd.OpTxn(c.Txn().If(etcd.Condition{}))),
			"negative limit":      c.Txn().Then(etcd.OpTxn(c.Txn().Then(etcd.OpGetRange("a", "b", etcd.WithLimit(-1))))),
			"range ends before":   c.Txn().Then(etcd.OpGetRange("b", "a")),
			"range of no key":     c.Txn().Then(etcd.OpDeleteRange("b", "b")),
			"range up to nothing": c.Txn().Then(etcd.OpGetRange("", "\x00")),
		} {
			requireRefused(t, o, name, etcd.ErrInvalidArgument, func() error { return second(txn.Commit(ctx)) })
		}
		for name, op := range map[string]etcd.Op{
			"prefix": etcd.OpDeletePrefix(""), "range": etcd.OpDeleteRange("", ""),
		} {
			requireRefused(t, o, name, etcd.ErrEmptyPrefix, func() error {
				return second(c.Txn().Then(etcd.OpTxn(c.Txn().Then(op))).Commit(ctx))
			})
		}
		requireRefused(t, o, "empty key", etcd.ErrEmptyKey, func() error {
			return second(c.Txn().Then(etcd.OpTxn(c.Txn().If(etcd.Value("").Equal(nil)))).Commit(ctx))
		})
		var e *etcd.Error
		require.ErrorAs(t, second(c.Txn().Then(etcd.OpTxn(c.Txn().Then(etcd.OpGet("first"), etcd.OpGet("")))).Commit(ctx)), &e)
		require.Equal(t, "first", e.Key, "the first key of the tree")
	})
}

// A transaction in two places of each of many levels unfolds into more operations
// than there is memory for.
func TestTransactionThatUnfoldsWithoutEndIsRefused(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithMaxRequestBytes(10_000))
	txn := c.Txn().Then(etcd.OpGet("k"))
	for range 60 {
		txn = c.Txn().Then(etcd.OpTxn(txn), etcd.OpTxn(txn))
	}
	requireRefused(t, o, "2^60 reads", etcd.ErrTooLarge, func() error { return second(txn.Commit(t.Context())) })
}

func TestNestedTransactionAppliesWhollyOrNotAtAll(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.Put(ctx, p+"key", []byte("1")))
		txn := func(wanted string) *etcd.Txn {
			return c.Txn().Then(
				etcd.OpPut(p+"before", nil),
				etcd.OpTxn(c.Txn().If(etcd.Value(p+"key").Equal([]byte(wanted))).
					Then(etcd.OpPut(p+"leased", nil, etcd.WithLease(12345))).
					Else(etcd.OpPut(p+"else", nil))),
				etcd.OpPut(p+"after", nil),
			)
		}
		_, err := txn("1").Commit(ctx)
		require.ErrorIs(t, err, etcd.ErrLeaseNotFound)
		require.False(t, etcd.MaybeApplied(err))
		keys, err := c.List(ctx, p)
		require.NoError(t, err)
		require.Equal(t, []string{p + "key"}, keys)

		res, err := txn("2").Commit(ctx)
		require.NoError(t, err, "on the branch that is not taken it does no harm")
		require.True(t, res.Succeeded)
		require.False(t, res.Results[1].Txn.Succeeded)
		keys, err = c.List(ctx, p)
		require.NoError(t, err)
		require.Equal(t, []string{p + "after", p + "before", p + "else", p + "key"}, keys)
	})
}

// The value of a nested condition changes after it was read and before the
// transaction is decided: what counts is the value at the commit.
func TestNestedConditionSeesTheValueAtTheCommit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, first, then string // of the key
		want              bool
	}{
		{"becomes true", "other", "wanted", true},
		{"becomes false", "wanted", "other", false},
		{"is created", "", "wanted", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
				ctx, p := t.Context(), prefix(t)
				if tc.first != "" {
					require.NoError(t, c.Put(ctx, p+"key", []byte(tc.first)))
				}
				var changes, writes atomic.Int64
				o.around(func(req any) {
					if writesTo(req, p+"out") && changes.Add(1) <= 2 {
						assert.NoError(t, c.Put(ctx, p+"key", []byte(tc.then)))
					}
				}, func(req any) {
					if writesTo(req, p+"out") {
						writes.Add(1)
					}
				})
				res, err := c.Txn().Then(etcd.OpTxn(c.Txn().
					If(etcd.Value(p+"key").Equal([]byte("wanted")), etcd.Missing(p+"out")).
					Then(etcd.OpPut(p+"out", []byte("then"))).
					Else(etcd.OpPut(p+"out", []byte("else"))))).
					Commit(ctx)
				require.NoError(t, err)
				require.True(t, res.Succeeded)
				require.Equal(t, tc.want, res.Results[0].Txn.Succeeded)
				kv, err := c.GetKV(ctx, p+"out")
				require.NoError(t, err)
				require.Equal(t, map[bool]string{true: "then", false: "else"}[tc.want], string(kv.Value))
				require.Equal(t, int64(1), kv.Version, "applied once")
				if c.IsEncrypted() {
					require.Equal(t, int64(3), writes.Load(), "tried until nothing changed in between")
				}
			})
		})
	}
}

// A value that can't be decoded is an error where the outcome depends on it, and
// nowhere else.
func TestUndecodableValueFailsAConditionThatNeedsIt(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithEncryption(testKey))
	ctx, p := t.Context(), prefix(t)
	_, err := c.Raw().Put(ctx, p+"bad", "not encrypted")
	require.NoError(t, err)
	require.NoError(t, c.Put(ctx, p+"good", []byte("1")))
	txn := func(outer etcd.Condition) *etcd.Txn {
		return c.Txn().If(outer).Then(
			etcd.OpTxn(c.Txn().If(etcd.Value(p + "bad").Equal(nil)).Then(etcd.OpDelete(p + "good"))),
		).Else(etcd.OpGetPrefix(p))
	}
	require.Len(t, o.during(func() {
		_, err = txn(etcd.Value(p + "good").Equal([]byte("1"))).Commit(ctx)
	}), 1, "only the read")
	var decode *etcd.DecodeError
	require.ErrorAs(t, err, &decode)
	require.Equal(t, p+"bad", decode.Key)
	require.ErrorIs(t, err, etcd.ErrNotEncrypted)
	require.False(t, etcd.MaybeApplied(err))

	res, err := txn(etcd.Value(p + "good").Equal([]byte("2"))).Commit(ctx)
	require.NoError(t, err)
	require.False(t, res.Succeeded)
	_, ok := res.KV(p + "good")
	require.True(t, ok)
	_, ok = res.KV(p + "bad")
	require.False(t, ok)
	require.ErrorAs(t, res.Err(), &decode)
	res, err = c.Txn().Then(etcd.OpTxn(c.Txn().Then(etcd.OpGet(p + "bad")))).Commit(ctx)
	require.NoError(t, err)
	require.ErrorIs(t, res.Err(), etcd.ErrNotEncrypted)
}

// swapNested adds one by a transaction whose condition on the value is nested.
func swapNested(ctx context.Context, c *etcd.Client, key string) error {
	for {
		old, err := c.Get(ctx, key)
		if err != nil {
			return err
		}
		value, err := increment(old)
		if err != nil {
			return err
		}
		res, err := c.Txn().If(etcd.Exists(key)).Then(etcd.OpTxn(
			c.Txn().If(etcd.Value(key).Equal(old)).Then(etcd.OpPut(key, value)),
		)).Commit(ctx)
		if err != nil || res.Results[0].Txn.Succeeded {
			return err
		}
	}
}

func TestNestedConditionsOnValuesLoseNoConcurrentChange(t *testing.T) {
	t.Parallel()
	const workers, each = 8, 10
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			srv := server(t)
			ctx, key := within(t, 5*time.Minute), prefix(t)
			clients := make([]*etcd.Client, workers)
			for i := range clients {
				clients[i] = client(t, m.set(config(srv)).WithTimeout(5*time.Minute))
			}
			require.NoError(t, clients[0].Put(ctx, key, []byte("0")))
			var working sync.WaitGroup
			for _, c := range clients {
				working.Go(func() {
					for range each {
						assert.NoError(t, swapNested(ctx, c, key))
					}
				})
			}
			working.Wait()
			kv, err := clients[0].GetKV(ctx, key)
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(workers*each), string(kv.Value))
			require.Equal(t, int64(workers*each)+1, kv.Version)
		})
	}
}
