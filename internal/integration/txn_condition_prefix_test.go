package integration

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/blueprint-go/etcd"
)

func TestPrefixConditionHoldsIfEveryKeyMeetsIt(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		lease, err := c.Grant(ctx, busyTimeout)
		require.NoError(t, err)
		for _, key := range []string{"same/1", "same/2", "mixed/1", "mixed/2"} {
			require.NoError(t, c.Put(ctx, p+key, []byte("1"), etcd.WithLease(lease)))
		}
		first := revisionOf(t, c)
		require.NoError(t, c.Put(ctx, p+"mixed/2", []byte("2")))
		same, mixed, none := p+"same/", p+"mixed/", p+"none/"
		value := func(prefix string) etcd.ValueTerm { return etcd.Value(prefix).OfPrefix() }
		for name, tc := range map[string]struct {
			cond etcd.Condition
			want bool
		}{
			"all equal":                {value(same).Equal([]byte("1")), true},
			"one is not equal":         {value(mixed).Equal([]byte("1")), false},
			"one is equal":             {value(mixed).NotEqual([]byte("1")), false},
			"none is equal":            {value(mixed).NotEqual([]byte("3")), true},
			"all less":                 {value(mixed).Less([]byte("3")), true},
			"one is not less":          {value(mixed).Less([]byte("2")), false},
			"all greater":              {value(mixed).Greater([]byte("0")), true},
			"one is not greater":       {value(mixed).Greater([]byte("1")), false},
			"without a prefix":         {etcd.Value(same).Equal([]byte("1")), false},
			"equal of no key":          {value(none).Equal(nil), false},
			"not equal of no key":      {value(none).NotEqual([]byte("1")), false},
			"less of no key":           {value(none).Less([]byte("1")), false},
			"all keys":                 {value("").Less([]byte("3")), true},
			"all keys, one is not":     {value("").Less([]byte("2")), false},
			"of the last prefix":       {value("\xff").Less([]byte("2")), false},
			"none newer":               {etcd.ModRevision(same).OfPrefix().Less(first + 1), true},
			"one newer":                {etcd.ModRevision(mixed).OfPrefix().Less(first + 1), false},
			"none created since":       {etcd.CreateRevision(mixed).OfPrefix().Less(first + 1), true},
			"none newer of no key":     {etcd.ModRevision(none).OfPrefix().Less(1), true},
			"some revision of no key":  {etcd.ModRevision(none).OfPrefix().Greater(0), false},
			"all of version 1":         {etcd.Version(same).OfPrefix().Equal(1), true},
			"one of version 2":         {etcd.Version(mixed).OfPrefix().Equal(1), false},
			"version of no key":        {etcd.Version(none).OfPrefix().Equal(0), true},
			"all with the lease":       {etcd.AttachedLease(same).OfPrefix().Equal(int64(lease)), true},
			"one without the lease":    {etcd.AttachedLease(mixed).OfPrefix().Equal(int64(lease)), false},
			"every key has a revision": {etcd.CreateRevision("").OfPrefix().Greater(0), true},
		} {
			requireHolds(t, c, tc.want, name, tc.cond)
			res, err := c.Txn().Then(etcd.OpTxn(c.Txn().If(tc.cond))).Commit(ctx)
			require.NoError(t, err, name)
			require.Equal(t, tc.want, res.Results[0].Txn.Succeeded, "nested: "+name)
		}

		// What was deleted, a condition of a prefix doesn't see.
		require.NoError(t, done(deletedOne(c.Delete(ctx, p+"mixed/2"))))
		requireHolds(t, c, true, "after a deletion", etcd.ModRevision(mixed).OfPrefix().Less(first+1))
	})
}

func deletedOne(n int64, err error) (bool, error) { return n == 1, err }

// The keys of a prefix may be more than a transaction has operations.
func TestPrefixConditionTakesAnyNumberOfKeys(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, p := t.Context(), prefix(t)
		kvs := map[string][]byte{}
		for i := range 3 * etcd.DefaultMaxTxnOps {
			kvs[fmt.Sprintf("%smany/%03d", p, i)] = []byte("1")
		}
		require.NoError(t, c.BulkPut(ctx, kvs))
		many := etcd.Value(p + "many/").OfPrefix()
		trips := len(o.during(func() { requireHolds(t, c, true, "all", many.Equal([]byte("1"))) }))
		require.NoError(t, c.Put(ctx, p+"many/383", []byte("2")))
		requireHolds(t, c, false, "but one", many.Equal([]byte("1")))

		// Each takes two of the limit where it is compared here.
		conditions := make([]etcd.Condition, etcd.DefaultMaxTxnOps/2+1)
		for i := range conditions {
			conditions[i] = etcd.Value(fmt.Sprint(p, "many/", i)).OfPrefix().Equal(nil)
		}
		_, err := c.Txn().If(conditions[1:]...).Commit(ctx)
		require.NoError(t, err)
		commit := func() error { return second(c.Txn().If(conditions...).Commit(ctx)) }
		if trips == 1 {
			require.NoError(t, commit(), "the server compares")
		} else {
			requireRefused(t, o, "65 prefixes", etcd.ErrTooManyOps, commit)
		}
	})
}

// Keys under the prefix change after they were read and before the transaction is
// decided: what counts is what is there at the commit.
func TestPrefixConditionSeesTheValuesAtTheCommit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		before map[string]string // under the prefix
		change func(t *testing.T, c *etcd.Client, p string) error
		want   bool // that all are "1"
	}{
		{"one is created", map[string]string{"1": "1"}, func(t *testing.T, c *etcd.Client, p string) error {
			return c.Put(t.Context(), p+"2", []byte("2"))
		}, false},
		{"the first is created", nil, func(t *testing.T, c *etcd.Client, p string) error {
			return c.Put(t.Context(), p+"1", []byte("1"))
		}, true},
		{"one is changed", map[string]string{"1": "1", "2": "2"}, func(t *testing.T, c *etcd.Client, p string) error {
			return c.Put(t.Context(), p+"2", []byte("1"))
		}, true},
		{"the last that holds is changed", map[string]string{"1": "1", "2": "1"}, func(t *testing.T, c *etcd.Client, p string) error {
			return c.Put(t.Context(), p+"2", []byte("2"))
		}, false},
		{"the one that fails is deleted", map[string]string{"1": "1", "2": "2"}, func(t *testing.T, c *etcd.Client, p string) error {
			return second(c.Delete(t.Context(), p+"2"))
		}, true},
		{"the first is deleted", map[string]string{"1": "1", "2": "1"}, func(t *testing.T, c *etcd.Client, p string) error {
			return second(c.Delete(t.Context(), p+"1"))
		}, true},
		{"all are deleted", map[string]string{"1": "1", "2": "1"}, func(t *testing.T, c *etcd.Client, p string) error {
			return second(c.DeletePrefix(t.Context(), p))
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
				ctx, p := t.Context(), prefix(t)
				for key, value := range tc.before {
					require.NoError(t, c.Put(ctx, p+"under/"+key, []byte(value)))
				}
				var tries atomic.Int64
				o.around(func(req any) {
					if writesTo(req, p+"out") && tries.Add(1) == 1 {
						assert.NoError(t, tc.change(t, c, p+"under/"))
					}
				}, nil)
				res, err := c.Txn().If(etcd.Value(p + "under/").OfPrefix().Equal([]byte("1"))).
					Then(etcd.OpPut(p+"out", []byte("then"))).
					Else(etcd.OpPut(p+"out", []byte("else"))).
					Commit(ctx)
				require.NoError(t, err)
				require.Equal(t, tc.want, res.Succeeded)
				kv, err := c.GetKV(ctx, p+"out")
				require.NoError(t, err)
				require.Equal(t, map[bool]string{true: "then", false: "else"}[tc.want], string(kv.Value))
				require.Equal(t, int64(1), kv.Version, "applied once")
			})
		})
	}
}

func TestUndecodableValueFailsAPrefixCondition(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithEncryption(testKey).WithUnencryptedPrefixes("/plain/"))
	ctx := t.Context()
	require.NoError(t, c.Put(ctx, "/plain/a", []byte("1")))
	require.NoError(t, c.Put(ctx, "/secret/a", []byte("1")))
	// Where the server sees the values it compares them; across the border it can't.
	for prefix, trips := range map[string]int{"/plain/": 1, "/secret/": 2, "/": 2, "": 2} {
		require.Len(t, o.during(func() {
			requireHolds(t, c, true, prefix, etcd.Value(prefix).OfPrefix().Equal([]byte("1")))
		}), trips, prefix)
	}
	_, err := c.Raw().Put(ctx, "/secret/b", "1")
	require.NoError(t, err)
	var decode *etcd.DecodeError
	require.ErrorAs(t, second(c.Txn().If(etcd.Value("/secret/").OfPrefix().Equal([]byte("1"))).Commit(ctx)), &decode)
	require.Equal(t, "/secret/b", decode.Key)
}

// A transaction without operations says something about now as well: the server
// would decide it on what the member has, were there no read in it that is not
// serializable.
func TestConditionsAloneAreDecidedLinearizably(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		p := prefix(t)
		for name, cond := range map[string]etcd.Condition{
			"key": etcd.Exists(p + "key"), "prefix": etcd.PrefixEmpty(p), "all keys": etcd.PrefixEmpty(""),
			"value": etcd.Value(p + "key").Equal(nil), "values": etcd.Value(p).OfPrefix().Equal(nil),
		} {
			var linearizable atomic.Bool
			o.around(func(req any) {
				txn, ok := req.(*pb.TxnRequest)
				assert.True(t, ok)
				for _, op := range append(txn.Success, txn.Failure...) {
					linearizable.Store(linearizable.Load() || !op.GetRequestRange().GetSerializable())
				}
			}, nil)
			res, err := c.Txn().If(cond).Commit(t.Context())
			require.NoError(t, err)
			require.Empty(t, res.Results, name)
			require.True(t, linearizable.Load(), name)
		}
	})
}

func TestTransactionReadsAndDeletesRanges(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		kvs := map[string][]byte{}
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			kvs[p+key] = []byte(key)
		}
		require.NoError(t, c.BulkPut(ctx, kvs))
		for name, tc := range map[string]struct {
			op   etcd.Op
			want []string
		}{
			"two":           {etcd.OpGetRange(p+"b", p+"d"), []string{"b", "c"}},
			"between keys":  {etcd.OpGetRange(p+"a0", p+"b0"), []string{"b"}},
			"from start":    {etcd.OpGetRange("", p+"c"), []string{"a", "b"}},
			"limited":       {etcd.OpGetRange(p+"b", p+"z", etcd.WithLimit(1)), []string{"b"}},
			"none":          {etcd.OpGetRange(p+"x", p+"z"), nil},
			"up to the end": {etcd.OpGetRange(p+"d", "/~"), []string{"d", "e"}},
		} {
			res, err := c.Txn().Then(tc.op).Commit(ctx)
			require.NoError(t, err)
			var got []string
			for _, kv := range res.Results[0].KVs {
				require.Equal(t, kv.Key, p+string(kv.Value))
				got = append(got, string(kv.Value))
			}
			require.Equal(t, tc.want, got, name)
		}
		deleted := func(op etcd.Op) int64 {
			res, err := c.Txn().Then(etcd.OpTxn(c.Txn().Then(op))).Commit(ctx)
			require.NoError(t, err)
			return res.Results[0].Txn.Results[0].Deleted
		}
		require.Equal(t, int64(2), deleted(etcd.OpDeleteRange(p+"b", p+"d")))
		require.Equal(t, int64(1), deleted(etcd.OpDeleteRange("", p+"b")))
		keys, err := c.List(ctx, p)
		require.NoError(t, err)
		require.Equal(t, []string{p + "d", p + "e"}, keys)
		require.Equal(t, int64(1), deleted(etcd.OpDeleteRange(p+"e", p+"e0")))
		require.Positive(t, deleted(etcd.OpDeleteRange(p+"d", "")))
		count, err := c.Count(ctx, p)
		require.NoError(t, err)
		require.Zero(t, count)
		require.NoError(t, c.Put(ctx, p+"a", nil))
		require.Positive(t, deleted(etcd.OpDeleteRange("", "", etcd.WithAllKeys())))
		count, err = c.Count(ctx, "")
		require.NoError(t, err)
		require.Zero(t, count)
	})
}

func TestOpenTransactionRangeEndsWithTheNamespace(t *testing.T) {
	t.Parallel()
	srv := server(t)
	all, part := client(t, config(srv)), client(t, config(srv).WithNamespace("m/"))
	ctx := t.Context()
	require.NoError(t, all.BulkPut(ctx, map[string][]byte{"a": nil, "m/a": nil, "m/b": nil, "z": nil}))
	res, err := part.Txn().Then(etcd.OpGetRange("b", ""), etcd.OpDeleteRange("", "", etcd.WithAllKeys())).Commit(ctx)
	require.NoError(t, err)
	require.Equal(t, int64(1), res.Results[0].Count)
	require.Equal(t, int64(2), res.Results[1].Deleted)
	keys, err := all.List(ctx, "")
	require.NoError(t, err)
	require.Equal(t, []string{"a", "z"}, keys)
}
