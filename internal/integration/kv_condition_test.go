package integration

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/blueprint-go/etcd"
)

// conditionedWrites are all kinds of calls that take conditions. Each changes the key p, which has
// the value 1.
var conditionedWrites = map[string]func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error{
	"Put": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return c.Put(ctx, p, []byte("2"), o)
	},
	"PutWithLease": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		id, err := c.Grant(ctx, time.Hour)
		if err != nil {
			return err
		}
		return c.PutWithLease(ctx, p, []byte("2"), id, o)
	},
	"PutWithTTL": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return second(c.PutWithTTL(ctx, p, []byte("2"), time.Hour, o))
	},
	"PutIfChanged": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return done(c.PutIfChanged(ctx, p, []byte("2"), o))
	},
	"Delete": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return second(c.Delete(ctx, p, o))
	},
	"DeletePrefix": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return second(c.DeletePrefix(ctx, p, o))
	},
	"DeletePrefix in chunks": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return second(c.DeletePrefix(ctx, p, o, etcd.InChunks()))
	},
	"CompareAndSwap": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return done(c.CompareAndSwap(ctx, p, []byte("1"), []byte("2"), o))
	},
	"CompareAndDelete": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return done(c.CompareAndDelete(ctx, p, []byte("1"), o))
	},
	"Update": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return c.Update(ctx, p, increment, o)
	},
	"Transact": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return c.Transact(ctx, func(tx *etcd.Tx) error { return incrementIn(tx, p) }, o)
	},
	"BulkPut": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return c.BulkPut(ctx, map[string][]byte{p: []byte("2"), p + "/b": nil}, o)
	},
	"BulkPut in chunks": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return c.BulkPut(ctx, map[string][]byte{p: []byte("2"), p + "/b": nil}, o, etcd.InChunks(etcd.WithChunkKeys(1)))
	},
	"BulkDelete": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return second(c.BulkDelete(ctx, []string{p, p + "/b"}, o))
	},
	"BulkLoad": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return second(c.BulkLoad(ctx, maps.All(map[string][]byte{p: []byte("2")}), o))
	},
	"Typed.Put": func(ctx context.Context, c *etcd.Client, p string, o etcd.ConditionOption) error {
		return etcd.NewTyped[int](c, "").Put(ctx, p, 2, o)
	},
}

func TestWriteIsBoundToItsConditions(t *testing.T) {
	t.Parallel()
	srv := server(t)
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			c := client(t, m.set(config(srv)))
			for name, write := range conditionedWrites {
				p, ctx := prefix(t)+name, t.Context()
				guard := p + ".guard" // not under p + "/"
				require.NoError(t, c.Put(ctx, "g"+guard, []byte("1")))
				require.NoError(t, c.Put(ctx, p, []byte("1")))
				revision := revisionOf(t, c)

				err := write(ctx, c, p, etcd.WithCondition(etcd.Exists("g"+guard), etcd.Missing(p)))
				require.ErrorIs(t, err, etcd.ErrConditionFailed, name)
				require.False(t, etcd.MaybeApplied(err), name)
				require.False(t, etcd.IsRetryable(err), name)
				requireValue(t, c, p, "1")
				require.Equal(t, revision, revisionOf(t, c), "%s: nothing was written", name)

				require.NoError(t, write(ctx, c, p, etcd.WithCondition(etcd.Exists("g"+guard), etcd.Exists(p))), name)
				require.Greater(t, revisionOf(t, c), revision, name)
			}
		})
	}
}

func TestConditionOnAnEncryptedValueIsDecided(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			c := client(t, m.set(config(srv)))
			for name, write := range conditionedWrites {
				p, ctx := prefix(t)+name, t.Context()
				require.NoError(t, c.Put(ctx, "g"+p, []byte("1")))
				require.NoError(t, c.Put(ctx, p, []byte("1")))
				holds, fails := etcd.Value("g"+p).Equal([]byte("1")), etcd.Value("g"+p).Equal([]byte("2"))
				err := write(ctx, c, p, etcd.WithCondition(fails))
				requireValue(t, c, p, "1")
				if m.name != "plain" && serverDecidedWrites[name] {
					require.ErrorIs(t, err, etcd.ErrInvalidArgument, name)
					requireRefused(t, o, name, etcd.ErrInvalidArgument, func() error { return write(ctx, c, p, etcd.WithCondition(fails)) })
					continue
				}
				require.ErrorIs(t, err, etcd.ErrConditionFailed, name)
				require.NoError(t, write(ctx, c, p, etcd.WithCondition(holds)), name)
			}
		})
	}
}

// serverDecidedWrites are the calls that refuse a condition which only the client can
// decide.
var serverDecidedWrites = map[string]bool{
	"DeletePrefix": true, "DeletePrefix in chunks": true, "Transact": true,
	"BulkPut": true, "BulkPut in chunks": true, "BulkDelete": true, "BulkLoad": true,
}

func TestSwapTellsItsConditionFromItsComparison(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := t.Context()
	require.NoError(t, c.Put(ctx, "a", []byte("1")))
	swapped, err := c.CompareAndSwap(ctx, "a", []byte("2"), []byte("3"), etcd.WithCondition(etcd.Exists("a")))
	require.NoError(t, err)
	require.False(t, swapped, "another value")
	_, err = c.CompareAndSwap(ctx, "a", []byte("1"), []byte("3"), etcd.WithCondition(etcd.Exists("b")))
	require.ErrorIs(t, err, etcd.ErrConditionFailed)
	created, err := c.PutIfNotExists(ctx, "a", nil, etcd.WithCondition(etcd.Exists("b")))
	require.NoError(t, err)
	require.False(t, created)
	_, err = c.PutIfNotExists(ctx, "c", nil, etcd.WithCondition(etcd.Exists("b")))
	require.ErrorIs(t, err, etcd.ErrConditionFailed)
	var r etcd.WriteResult
	swapped, err = c.CompareAndSwap(ctx, "a", []byte("1"), []byte("3"), etcd.WithCondition(etcd.Exists("a")), etcd.WithResult(&r), etcd.WithPrevKV())
	require.NoError(t, err)
	require.True(t, swapped)
	require.Equal(t, "1", string(r.PrevKV.Value))
	require.Equal(t, revisionOf(t, c), r.Revision)
}

func TestUnusableConditionsAreRefused(t *testing.T) {
	t.Parallel()
	srv, o := observedServer(t)
	c := client(t, config(srv))
	ctx := t.Context()
	for name, write := range conditionedWrites {
		if name == "PutWithLease" { // it grants the lease first
			continue
		}
		for what, cond := range map[string]etcd.Condition{"zero": {}, "empty key": etcd.Exists("")} {
			var err error
			methods := o.during(func() { err = write(ctx, c, "key", etcd.WithCondition(cond)) })
			require.Error(t, err, "%s: %s", name, what)
			require.NotContains(t, methods, "Put", name)
			require.False(t, etcd.MaybeApplied(err), name)
		}
	}
	requireRefused(t, o, "WithGuard", etcd.ErrInvalidArgument, func() error {
		return c.Put(ctx, "key", nil, etcd.WithGuard(), etcd.WithCondition(etcd.Exists("key")))
	})
	requireRefused(t, o, "OpPut", etcd.ErrInvalidArgument, func() error {
		return second(c.Txn().Then(etcd.OpPut("key", nil, etcd.WithCondition(etcd.Exists("key")))).Commit(ctx))
	})
	requireRefused(t, o, "OpDelete", etcd.ErrInvalidArgument, func() error {
		return second(c.Txn().Then(etcd.OpDelete("key", etcd.WithCondition(etcd.Exists("key")))).Commit(ctx))
	})
	require.NoError(t, c.Put(ctx, "key", nil, etcd.WithCondition()), "no condition holds")
}

// A bulk call in chunks goes on until a condition fails, and sends nothing after it.
func TestChunksStopAtAFailedCondition(t *testing.T) {
	t.Parallel()
	c := client(t, config(server(t)))
	ctx := t.Context()
	err := c.BulkPut(ctx, map[string][]byte{"a": nil, "b": nil, "c": nil},
		etcd.WithCondition(etcd.Missing("a")), etcd.InChunks(etcd.WithChunkKeys(1), etcd.WithParallelism(1)))
	require.ErrorIs(t, err, etcd.ErrConditionFailed)
	var bulk *etcd.BulkError
	require.ErrorAs(t, err, &bulk)
	require.Equal(t, []string{"a"}, bulk.Applied)
	require.ElementsMatch(t, []string{"b", "c"}, bulk.NotApplied)
	require.Empty(t, bulk.Unknown)
}
