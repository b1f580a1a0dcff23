package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestTransactionAppliesOneOfItsBranches(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, p := t.Context(), prefix(t)
		commit := func() (res *etcd.TxnResult) {
			require.Equal(t, []string{"Txn"}, o.during(func() {
				var err error
				res, err = c.Txn().
					If(etcd.Missing(p+"a")).
					Then(etcd.OpPut(p+"a", []byte("1")), etcd.OpPut(p+"b", []byte("2"))).
					Else(etcd.OpGet(p+"a"), etcd.OpDelete(p+"b"), etcd.OpDelete(p+"missing"), etcd.OpGet(p+"missing")).
					Commit(ctx)
				require.NoError(t, err)
			}))
			return res
		}
		first := commit()
		require.True(t, first.Succeeded)
		require.Equal(t, []etcd.OpResult{{Key: p + "a"}, {Key: p + "b"}}, first.Results)
		kvs, err := c.GetPrefix(ctx, p, 0)
		require.NoError(t, err)
		require.Len(t, kvs, 2)
		for _, kv := range kvs {
			require.Equal(t, first.Revision, kv.ModRevision, "one revision for all")
		}

		second := commit()
		require.False(t, second.Succeeded)
		require.Equal(t, first.Revision+1, second.Revision)
		require.Equal(t, []etcd.OpResult{
			{Key: p + "a", Count: 1, KVs: kvs[:1]},
			{Key: p + "b", Deleted: 1},
			{Key: p + "missing"},
			{Key: p + "missing", KVs: []etcd.KeyValue{}},
		}, second.Results)
		kv, ok := second.KV(p + "a")
		require.True(t, ok)
		require.Equal(t, "1", string(kv.Value))
		_, ok = second.KV(p + "missing")
		require.False(t, ok)
	})
}

func TestTransactionReadsPrefixes(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "a/1": []byte("1"), p + "a/2": []byte("2"), p + "b": []byte("3")}))
		old, err := c.GetKV(ctx, p+"b")
		require.NoError(t, err)
		require.NoError(t, c.Put(ctx, p+"b", []byte("4")))

		res, err := c.Txn().Then(
			etcd.OpGetPrefix(p+"a/"),
			etcd.OpGetPrefix(p, etcd.WithLimit(1)),
			etcd.OpListPrefix(p+"a/"),
			etcd.OpGet(p+"b", etcd.WithRevision(old.ModRevision)),
			etcd.OpGetPrefix(p+"c"),
			etcd.OpGetPrefix(""),
			etcd.OpListRange(p+"a/2", p+"b\x00", etcd.WithLimit(1)),
		).Commit(ctx)
		require.NoError(t, err)
		require.True(t, res.Succeeded)
		texts := make([]string, len(res.Results))
		for i, r := range res.Results {
			require.NoError(t, r.Err)
			texts[i] = fmt.Sprint(r.Count)
			for _, kv := range r.KVs {
				texts[i] += fmt.Sprintf(" %s=%s", kv.Key[len(p):], kv.Value)
			}
		}
		require.Equal(t, []string{
			"2 a/1=1 a/2=2", "3 a/1=1", "2 a/1= a/2=", "1 b=3", "0", "3 a/1=1 a/2=2 b=4", "2 a/2=",
		}, texts)
		for _, i := range []int{2, 6} {
			require.Nil(t, res.Results[i].KVs[0].Value, "a list reads no values")
		}
		kv, ok := res.KV(p + "a/2")
		require.True(t, ok)
		require.Equal(t, "2", string(kv.Value))
	})
}

func TestTransactionDeletesPrefixes(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "a/1": nil, p + "a/2": nil, p + "b": nil}))
		res, err := c.Txn().Then(etcd.OpDeletePrefix(p+"a/"), etcd.OpPut(p+"a", nil)).Commit(ctx)
		require.NoError(t, err)
		require.Equal(t, int64(2), res.Results[0].Deleted)
		res, err = c.Txn().Then(etcd.OpDeletePrefix("", etcd.WithAllKeys())).Commit(ctx)
		require.NoError(t, err)
		require.Equal(t, int64(2), res.Results[0].Deleted)
	})
}

func TestConditionsOnNumbers(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		lease, err := c.PutWithTTL(ctx, p+"key", nil, time.Minute)
		require.NoError(t, err)
		require.NoError(t, c.Put(ctx, p+"key", nil, etcd.WithIgnoreLease()))
		kv, err := c.GetKV(ctx, p+"key")
		require.NoError(t, err)

		for name, tc := range map[string]struct {
			term func(string) etcd.NumberTerm
			n    int64
		}{
			"version": {etcd.Version, 2},
			"create":  {etcd.CreateRevision, kv.CreateRevision},
			"mod":     {etcd.ModRevision, kv.ModRevision},
			"lease":   {etcd.AttachedLease, int64(lease)},
		} {
			for key, n := range map[string]int64{p + "key": tc.n, p + "missing": 0} {
				for _, holding := range []etcd.Condition{
					tc.term(key).Equal(n), tc.term(key).NotEqual(n + 1), tc.term(key).Less(n + 1), tc.term(key).Greater(n - 1),
				} {
					requireHolds(t, c, true, name, holding)
				}
				for _, failing := range []etcd.Condition{
					tc.term(key).Equal(n + 1), tc.term(key).NotEqual(n), tc.term(key).Less(n), tc.term(key).Greater(n),
				} {
					requireHolds(t, c, false, name, failing)
					requireHolds(t, c, false, name, etcd.Exists(p+"key"), failing)
				}
			}
		}
	})
}

func TestConditionsOnExistence(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		p := prefix(t)
		requireHolds(t, c, true, "all keys", etcd.PrefixEmpty(""))
		require.NoError(t, c.Put(t.Context(), p+"a/1", nil))
		for name, tc := range map[string]struct {
			cond etcd.Condition
			want bool
		}{
			"exists":            {etcd.Exists(p + "a/1"), true},
			"does not exist":    {etcd.Exists(p + "a"), false},
			"missing":           {etcd.Missing(p + "a"), true},
			"not missing":       {etcd.Missing(p + "a/1"), false},
			"empty prefix":      {etcd.PrefixEmpty(p + "b"), true},
			"a key with it":     {etcd.PrefixEmpty(p + "a/"), false},
			"the key itself":    {etcd.PrefixEmpty(p + "a/1"), false},
			"longer than a key": {etcd.PrefixEmpty(p + "a/1/"), true},
			"any key":           {etcd.PrefixEmpty(""), false},
			"last prefix":       {etcd.PrefixEmpty("\xff"), true},
		} {
			requireHolds(t, c, tc.want, name, tc.cond)
		}
	})
}

func TestTransactionOfNothingSucceeds(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		res, err := c.Txn().Commit(t.Context())
		require.NoError(t, err)
		require.True(t, res.Succeeded)
		require.Empty(t, res.Results)
		require.Positive(t, res.Revision)
	})
}

func TestTransactionMethodsAddUp(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	p := prefix(t)
	res, err := c.Txn().
		If(etcd.Missing(p + "a")).If(etcd.Exists(p + "b")).
		Then(etcd.OpGet("then")).
		Else(etcd.OpPut(p+"a", nil)).Else(etcd.OpPut(p+"b", nil)).
		Commit(t.Context())
	require.NoError(t, err)
	require.False(t, res.Succeeded)
	require.Len(t, res.Results, 2)
}
