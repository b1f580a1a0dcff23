package integration

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

func TestConditionsOnValues(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		long := strings.Repeat("long enough to be compressed ", 100)
		for _, value := range []string{"", "m", "\xff\x65\x63\x76", long} {
			key := p + "key"
			require.NoError(t, c.Put(ctx, key, []byte(value)))
			for _, operand := range []string{"", "a", "m", "m\x00", "z", "\xff\x65\x63\x76", "\xff\xff", long, long + "!"} {
				for name, tc := range map[string]struct {
					cond etcd.Condition
					want bool
				}{
					"equal":     {etcd.Value(key).Equal([]byte(operand)), value == operand},
					"not equal": {etcd.Value(key).NotEqual([]byte(operand)), value != operand},
					"less":      {etcd.Value(key).Less([]byte(operand)), value < operand},
					"greater":   {etcd.Value(key).Greater([]byte(operand)), value > operand},
				} {
					requireHolds(t, c, tc.want, fmt.Sprintf("%.10q %s %.10q", value, name, operand), tc.cond)
				}
			}
		}
		missing := etcd.Value(p + "missing")
		for _, cond := range []etcd.Condition{
			missing.Equal(nil), missing.NotEqual([]byte("x")), missing.Less([]byte("x")), missing.Greater(nil),
		} {
			requireHolds(t, c, false, "missing", cond)
		}
	})
}

// All conditions count, those that the server decides and those that it can't.
func TestConditionsOfBothKinds(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, _ *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.BulkPut(ctx, map[string][]byte{p + "a": []byte("1"), p + "b": []byte("2")}))
		conditions := map[string][2]etcd.Condition{
			"a":       {etcd.Value(p + "a").Equal([]byte("0")), etcd.Value(p + "a").Equal([]byte("1"))},
			"b":       {etcd.Value(p + "b").Less([]byte("2")), etcd.Value(p + "b").Less([]byte("3"))},
			"missing": {etcd.Exists(p + "missing"), etcd.Missing(p + "missing")},
			"version": {etcd.Version(p + "a").Greater(1), etcd.Version(p + "a").Equal(1)},
		}
		for bits := range 16 {
			var all []etcd.Condition
			for i, name := range []string{"a", "b", "missing", "version"} {
				all = append(all, conditions[name][bits>>i&1])
			}
			res, err := c.Txn().If(all...).
				Then(etcd.OpPut(p+"out", []byte("then")), etcd.OpGet(p+"a")).
				Else(etcd.OpGet(p+"b"), etcd.OpPut(p+"out", []byte("else")), etcd.OpDelete(p+"none")).
				Commit(ctx)
			require.NoError(t, err)
			require.Equal(t, bits == 15, res.Succeeded, bits)
			want, results, read := "else", 3, p+"b"
			if res.Succeeded {
				want, results, read = "then", 2, p+"a"
			}
			require.Len(t, res.Results, results)
			_, ok := res.KV(read)
			require.True(t, ok)
			kv, err := c.GetKV(ctx, p+"out")
			require.NoError(t, err)
			require.Equal(t, want, string(kv.Value))
			require.Equal(t, res.Revision, kv.ModRevision)
		}
	})
}

// The value changes after it was read and before the transaction is decided:
// what counts is the value at the commit.
func TestConditionSeesTheValueAtTheCommit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, first, then string // of the key
		want              bool
	}{
		{"becomes true", "other", "wanted", true},
		{"becomes false", "wanted", "other", false},
		{"stays true", "wanted", "wanted", true},
		{"stays false", "other", "another", false},
		{"is created", "", "wanted", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
				ctx, p := t.Context(), prefix(t)
				if tc.first != "" {
					require.NoError(t, c.Put(ctx, p+"key", []byte(tc.first)))
				}
				var changes atomic.Int64
				// Twice, so that the second try of a round is too late as well.
				o.around(func(req any) {
					if conditional(req) && changes.Add(1) <= 2 {
						assert.NoError(t, c.Put(ctx, p+"key", []byte(tc.then)))
					}
				}, nil)
				res, err := c.Txn().
					If(etcd.Value(p+"key").Equal([]byte("wanted")), etcd.Missing(p+"out")).
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

// Whatever a plain client may put into a transaction an encrypting one may, but
// for the case that the documentation names.
func TestTransactionUpToTheLimitOfOperations(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, c *etcd.Client, o *observer) {
		ctx, p := t.Context(), prefix(t)
		require.NoError(t, c.Put(ctx, p+"key", []byte("1")))
		ops := make([]etcd.Op, etcd.DefaultMaxTxnOps+1)
		conditions := make([]etcd.Condition, len(ops))
		for i := range ops {
			ops[i] = etcd.OpPut(fmt.Sprint(p, "n/", i), nil)
			conditions[i] = etcd.Value(p + "key").Equal([]byte("1"))
		}
		const most = etcd.DefaultMaxTxnOps
		for name, txn := range map[string]*etcd.Txn{
			"then":       c.Txn().If(conditions[0]).Then(ops[:most]...),
			"else":       c.Txn().If(etcd.Value(p + "key").Less(nil)).Else(ops[:most]...),
			"conditions": c.Txn().If(conditions[:most]...).Then(ops[0]),
			"all":        c.Txn().If(conditions[:most]...).Then(ops[:most]...).Else(ops[:most]...),
			"both kinds": c.Txn().If(conditions[:28]...).If(etcd.Missing(p + "none")).Then(ops[:100]...),
		} {
			_, err := txn.Commit(ctx)
			require.NoError(t, err, name)
		}
		for name, txn := range map[string]*etcd.Txn{
			"then":       c.Txn().Then(ops...),
			"else":       c.Txn().Else(ops...),
			"conditions": c.Txn().If(conditions...),
		} {
			require.Empty(t, o.during(func() {
				_, err := txn.Commit(ctx)
				require.ErrorIs(t, err, etcd.ErrTooManyOps, name)
			}))
		}
	})
}

func TestConditionsOnValuesCountAsOperationsBesideOthers(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv).WithEncryption(testKey))
	txn := c.Txn().If(etcd.Value("key").Equal(nil), etcd.Missing("none"))
	for i := range etcd.DefaultMaxTxnOps {
		txn.Then(etcd.OpPut(fmt.Sprint("n", i), nil))
	}
	require.Empty(t, o.during(func() {
		_, err := txn.Commit(t.Context())
		require.ErrorIs(t, err, etcd.ErrTooManyOps)
	}))
}
